#include <pybind11/stl.h>

#include <cstring>

#include "base/half.h"
#include "bindings/arrays.h"
#include "bindings/register.h"
#include "bindings/released_gil.h"
#include "cpu/linear.h"
#include "cpu/weights.h"
#include "model/activation.h"
#include "model/config.h"
#include "model/tensors.h"

namespace dialo {
namespace {

Matrix matrix_of(const F32Array& weight, bool in_out) {
  if (weight.ndim() != 2 || weight.size() == 0) {
    throw std::invalid_argument("expected a weight with two dimensions and at least one element, found " +
                                std::to_string(weight.ndim()) + " dimensions and " + std::to_string(weight.size()) +
                                " elements");
  }
  const int64_t first = weight.shape(0), second = weight.shape(1);
  return {weight.data(), in_out ? first : second, in_out ? second : first, in_out};
}

// suffix -> array
py::dict pack(const F32Array& weight, const std::string& dtype, bool in_out) {
  const LinearFormat& format = linear_format(dtype);
  const Matrix matrix = matrix_of(weight, in_out);
  py::dict packed;
  std::vector<void*> memory;
  for (const PackedPart& part : format.parts(matrix.K, matrix.N)) {
    py::array array(py::dtype(name_of(part.type)), part.shape);
    memory.push_back(array.mutable_data());
    packed[py::str(part.suffix)] = std::move(array);
  }
  {
    const ReleasedGil free;
    format.pack(matrix, memory);
  }
  return packed;
}

// suffix -> (dtype, shape)
py::dict packed_layout(int64_t K, int64_t N, const std::string& dtype) {
  if (K < 1 || N < 1) {
    throw std::invalid_argument("expected inputs and outputs from 1 on, found " + std::to_string(K) + " and " +
                                std::to_string(N));
  }
  py::dict layout;
  for (const PackedPart& part : linear_format(dtype).parts(K, N)) {
    layout[py::str(part.suffix)] = py::make_tuple(name_of(part.type), py::tuple(py::cast(part.shape)));
  }
  return layout;
}

py::tuple dtypes() {
  py::list names;
  for (const LinearFormat* format : linear_formats()) names.append(format->name);
  return py::tuple(names);
}

using Bits16 = py::array_t<uint16_t, py::array::c_style | py::array::forcecast>;

float bf16_to_float(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

template <float (*widen)(uint16_t)>
py::array widen_all(const Bits16& bits) {
  py::array_t<float> out(std::vector<py::ssize_t>(bits.shape(), bits.shape() + bits.ndim()));
  const uint16_t* from = bits.data();
  float* to = out.mutable_data();
  const py::ssize_t count = bits.size();
  const ReleasedGil free;
  for (py::ssize_t i = 0; i < count; ++i) to[i] = widen(from[i]);
  return out;
}

std::shared_ptr<Weights> make_weights(const Config& config, const py::dict& tensors) {
  Arrays arrays;
  for (const auto& [key, value] : tensors) {
    const auto name = key.cast<std::string>();
    arrays.emplace(name, to_array(name, value.cast<py::array>()));
  }
  return std::make_shared<Weights>(config, std::move(arrays));
}

Config make_config(int vocab_size, int n_positions, int n_embd, int n_layer, int n_head, int n_inner,
                   const std::string& activation_function, double layer_norm_epsilon, bool scale_attn_weights,
                   bool scale_attn_by_inverse_layer_idx, bool tie_word_embeddings, int num_labels) {
  Config config{.vocab_size = vocab_size,
                .n_positions = n_positions,
                .n_embd = n_embd,
                .n_layer = n_layer,
                .n_head = n_head,
                .n_inner = n_inner,
                .activation_function = activation_function,
                .layer_norm_epsilon = float(layer_norm_epsilon),
                .scale_attn_weights = scale_attn_weights,
                .scale_attn_by_inverse_layer_idx = scale_attn_by_inverse_layer_idx,
                .tie_word_embeddings = tie_word_embeddings,
                .num_labels = num_labels};
  config.validate();
  return config;
}

}  // namespace

void register_model(py::module_& m) {
  using namespace pybind11::literals;
  m.attr("ACTIVATIONS") = py::tuple(py::cast(activation_names()));

  py::class_<Config>(m, "Config")
      .def(py::init(&make_config), py::kw_only(), "vocab_size"_a, "n_positions"_a, "n_embd"_a, "n_layer"_a, "n_head"_a,
           "n_inner"_a, "activation_function"_a, "layer_norm_epsilon"_a, "scale_attn_weights"_a = true,
           "scale_attn_by_inverse_layer_idx"_a = false, "tie_word_embeddings"_a = true, "num_labels"_a = 0);

  py::class_<TensorSpec>(m, "TensorSpec")
      .def_readonly("name", &TensorSpec::name)
      .def_property_readonly("shape", [](const TensorSpec& spec) { return py::tuple(py::cast(spec.shape)); })
      .def_property_readonly("kind", [](const TensorSpec& spec) { return kind_name(spec.kind); });
  m.def("tensor_table", &tensor_table, "config"_a);

  m.attr("DTYPES") = dtypes();
  m.def("packed_layout", &packed_layout, "inputs"_a, "outputs"_a, "dtype"_a);
  m.def("pack", &pack, "weight"_a, "dtype"_a, "in_out"_a);
  m.def("widen_bf16", &widen_all<bf16_to_float>, "bits"_a);
  m.def("widen_f16", &widen_all<half_to_float>, "bits"_a);

  py::class_<Weights, std::shared_ptr<Weights>>(m, "Weights")
      .def(py::init(&make_weights), "config"_a, "tensors"_a)
      .def_property_readonly("weight_bytes", &Weights::bytes);
}

}  // namespace dialo
