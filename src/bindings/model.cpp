#include <pybind11/stl.h>

#include <cstring>

#include "base/buffer.h"
#include "base/half.h"
#include "bindings/arrays.h"
#include "bindings/register.h"
#include "cpu/pack.h"
#include "cpu/weights.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/tensors.h"

namespace dialo {
namespace {

Matrix matrix_of(const F32Array& weight, bool in_out) {
  if (weight.ndim() != 2 || weight.size() == 0) {
    throw std::invalid_argument("A weight must have two dimensions and at least one element.");
  }
  const int64_t first = weight.shape(0), second = weight.shape(1);
  return {weight.data(), in_out ? first : second, in_out ? second : first, in_out};
}

py::array pack(const F32Array& weight, bool in_out) {
  const Matrix w = matrix_of(weight, in_out);
  py::array_t<float> out({round_up(w.N, kLanes) / kLanes, w.K, int64_t{kLanes}});
  float* data = out.mutable_data();
  {
    const py::gil_scoped_release free;
    pack_f32(w, data);
  }
  return out;
}

py::array pack_half(const F32Array& weight, bool in_out) {
  const Matrix w = matrix_of(weight, in_out);
  py::array out(py::dtype("e"), {round_up(w.N, kLanes) / kLanes, w.K, int64_t{kLanes}});
  uint16_t* data = static_cast<uint16_t*>(out.mutable_data());
  {
    const py::gil_scoped_release free;
    pack_f16(w, data);
  }
  return out;
}

py::tuple quantize(const F32Array& weight, bool in_out) {
  const Matrix w = matrix_of(weight, in_out);
  const int64_t blocks = round_up(w.N, kLanes) / kLanes, groups = round_up(w.K, kGroup) / kGroup;
  py::array_t<int8_t> packed({blocks, groups, int64_t{kLanes}, int64_t{kGroup}});
  py::array_t<float> scale(blocks * kLanes);
  py::array_t<int32_t> sum(blocks * kLanes);
  int8_t* packed_data = packed.mutable_data();
  float* scale_data = scale.mutable_data();
  int32_t* sum_data = sum.mutable_data();
  {
    const py::gil_scoped_release free;
    quantize_i8(w, packed_data, scale_data, sum_data);
  }
  return py::make_tuple(packed, scale, sum);
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
  const py::gil_scoped_release free;
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

  m.def("pack_f32", &pack, "weight"_a, "in_out"_a);
  m.def("pack_f16", &pack_half, "weight"_a, "in_out"_a);
  m.def("quantize_i8", &quantize, "weight"_a, "in_out"_a);
  m.def("widen_bf16", &widen_all<bf16_to_float>, "bits"_a);
  m.def("widen_f16", &widen_all<half_to_float>, "bits"_a);

  py::class_<Weights, std::shared_ptr<Weights>>(m, "Model")
      .def(py::init(&make_weights), "config"_a, "tensors"_a)
      .def_property_readonly("weight_bytes", &Weights::bytes);
}

}  // namespace dialo
