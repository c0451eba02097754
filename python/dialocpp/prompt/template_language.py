"""What can a chat template say? Jinja as transformers has it, in a sandbox, traced and bounded.

Texts keep their origins (`traced.py`): constants of the template are its own, and what goes through a filter or a
function that knows no origins gets the one that is safe. Everything that repeats, calls or makes a value spends of a
budget (`template_budget.py`). Imported only for a model that has a template.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter

from .template_budget import check_bits, check_call, check_size, spend, weighed
from .traced import OURS, Traced, joined, origins, percent, settled

_WEIGHED, _COUNTED = "weighed value", "counted loop"  # filters that no template can name
_WIDTH = re.compile("[0-9]{4,}")
# Slow, random, or for web pages.
_LEFT_OUT = ("urlize", "wordwrap", "pprint", "random", "xmlattr")


def prompt_of(template: jinja2.Template, **variables: Any) -> Traced:
    """What the template says. Whatever it raises; `begin` a budget before."""
    text = template.render(**variables)
    assert isinstance(text, Traced)
    return text


class _Generator(CodeGenerator):
    """Jinja's compiler, with a step before each block and the template's texts as traced ones."""

    environment: Language

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Any) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)

    def visit_Const(self, node: nodes.Const, frame: Any) -> None:  # noqa: N802
        if isinstance(node.value, str):
            self.environment.constants.append(Traced(node.value, OURS))
            self.write(f"environment.constants[{len(self.environment.constants) - 1}]")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:  # noqa: N802
        self.write("environment.in_a_row((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks for training what the assistant said; it says just that."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [nodes.Scope(body).set_lineno(line)]


class _Formatter(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> Any:
        if _WIDTH.search(format_spec):
            raise ValueError(f"expected a width of at most three digits, found {str(format_spec)[:20]!r}")
        return super().format_field(weighed(value), str.__getitem__(format_spec, slice(None)))


class _Counted:
    """A loop's items, each of which is a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            spend()
            yield item


class _CountedSized(_Counted):
    def __len__(self) -> int:
        return len(self._items)


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, which shows nothing of itself: it may hold itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class Language(ImmutableSandboxedEnvironment):
    """Jinja for one template."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    step = staticmethod(spend)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, LoopControlExtension]
        )
        self.constants: list[Traced] = []
        self.finalize = _shown
        self.filters |= {"join": _join, "tojson": _tojson}
        for name in _LEFT_OUT:
            del self.filters[name]
        self.filters = {name: _checked(function) for name, function in self.filters.items()}
        self.tests = {name: _checked(function) for name, function in self.tests.items()}
        self.filters |= {_WEIGHED: weighed, _COUNTED: _counted}
        del self.globals["lipsum"]
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: datetime.now().strftime(form),
            "namespace": _Namespace,
            "dict": _dict,
        }

    @staticmethod
    def concat(parts: Iterable[str]) -> Traced:
        """What a template or a block of it says. Plain pieces are the template's own words."""
        said: list[str] = []
        size = 0
        for part in parts:
            said.append(Traced(part, OURS) if type(part) is str else part)
            size += len(part)
            check_size(size)
        return joined(said)

    @staticmethod
    def in_a_row(values: Iterable[Any]) -> Traced:
        """`a ~ b`."""
        return Language.concat(_text_of(value) for value in values)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _guard(tree)
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            weighed(right)
            return weighed(percent(left, right))
        _check_operator(operator, left, right)
        return weighed(super().call_binop(context, operator, left, right))

    def call(  # with names of jinja's own, so that templates may use any others
        __self,  # noqa: N805
        __context: Any,
        __function: Any,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        of = getattr(__function, "__self__", None)
        given = (*((of,) if isinstance(of, (str, list, tuple, dict)) else ()), *arguments, *named.values())
        check_call(given)
        return _settled(super().call(__context, __function, *arguments, **named), given)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text, by_map = value.__self__, value.__name__ == "format_map"

        def form(*arguments: Any, **named: Any) -> str:
            values = arguments[0] if by_map else named
            plain = str.__getitem__(text, slice(None))
            said = _Formatter(self).vformat(plain, () if by_map else arguments, values)
            return settled(said, (text, arguments, named))

        return form


def _guard(tree: nodes.Template) -> None:
    """Count what loops go through, what is compared, and the size of every list and slice where it is made."""
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _filtered(loop.iter, _COUNTED)
    for compare in list(tree.find_all(nodes.Compare)):
        compare.expr = _filtered(compare.expr, _WEIGHED)
        for operand in compare.ops:
            operand.expr = _filtered(operand.expr, _WEIGHED)
    _guard_made(tree)


def _guard_made(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_made(item) if isinstance(item, nodes.Node) else item for item in value]
        elif isinstance(value, nodes.Node):
            setattr(node, field, _made(value))


def _made(node: nodes.Node) -> Any:
    _guard_made(node)
    literal = isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load")
    if literal or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice) and node.ctx == "load"):
        return _filtered(node, _WEIGHED)
    return node


def _filtered(node: Any, name: str) -> Any:
    return nodes.Filter(node, name, [], [], None, None).set_lineno(node.lineno)


def _check_operator(operator: str, left: Any, right: Any) -> None:
    """TooMuchError if the result would be too large."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "*" and numbers:
        check_bits(left.bit_length() + right.bit_length())
    elif operator == "*":
        count, items = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(count, int) and isinstance(items, Sized):
            check_size(len(items) * count)
    elif operator == "**" and numbers:
        check_bits(left.bit_length() * max(0, right))
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        check_size(len(left) + len(right))


def _checked(function: Any) -> Any:
    """A filter or test that looks at the size of what it is given and at the origins of what it gives."""

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        given = (*arguments, *named.values())
        check_call(given)
        return _settled(function(*arguments, **named), given)

    return checked


def _settled(result: Any, given: tuple[Any, ...]) -> Any:
    """The result with origins, if it is a text without."""
    weighed(result)
    if type(result) is str or (isinstance(result, Traced) and not result.origin.strip("\0")):
        return settled(result, given)
    return result


@jinja2.pass_context
def _shown(context: Any, value: Any) -> str:
    """A value where a template writes it. With the context, so that jinja does not do it while it compiles."""
    return _text_of(value)


def _text_of(value: Any) -> str:
    weighed(value)
    return value if isinstance(value, Traced) else settled(str(value), (value,))


def _counted(items: Any) -> Any:
    """`items` as a loop takes them."""
    if isinstance(items, jinja2.Undefined):
        return items
    return _CountedSized(items) if isinstance(items, Sized) else _Counted(items)


@jinja2.pass_environment
def _join(environment: Language, value: Any, d: str = "", attribute: str | int | None = None) -> Traced:
    """Jinja's filter `join`."""
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    texts = [_text_of(item) for item in items]
    check_size(sum(map(len, texts)) + len(texts) * len(d))
    return joined(texts, Traced(d, OURS) if type(d) is str else d)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> Traced:
    """transformers' filter `tojson`, of which jinja's own would write for web pages."""
    options: dict[str, Any] = {"ensure_ascii": ensure_ascii, "indent": indent, "separators": separators}
    encoder = json.JSONEncoder(sort_keys=sort_keys, **options)
    if isinstance(value, Traced):
        return Traced(encoder.encode(value), origins(value)[:1] if len(set(origins(value))) == 1 else "\0")
    # The encoder writes each text in one piece: its origin is found by the text's place in the order of writing.
    return joined(_json_pieces(encoder, value, sort_keys))


def _json_pieces(encoder: json.JSONEncoder, value: Any, sort_keys: bool) -> Iterator[Traced]:
    texts: list[str] = []

    def numbered(item: Any) -> Any:
        """The value with a number in the place of each text."""
        if isinstance(item, str):
            texts.append(item)
            return f"\ue000{len(texts) - 1}\ue000"
        if isinstance(item, dict):
            keys = sorted(item) if sort_keys else item
            return {numbered(key) if isinstance(key, str) else key: numbered(item[key]) for key in keys}
        return [numbered(part) for part in item] if isinstance(item, (list, tuple)) else item

    plain = json.JSONEncoder(indent=encoder.indent, ensure_ascii=False)
    plain.item_separator, plain.key_separator = encoder.item_separator, encoder.key_separator
    for i, part in enumerate(re.split('"\ue000([0-9]+)\ue000"', plain.encode(numbered(value)))):
        yield _tojson(texts[int(part)], encoder.ensure_ascii) if i % 2 else Traced(part, OURS)


def _dict(*arguments: Any, **named: Any) -> dict[Any, Any]:
    """Not the type itself: a template could ask it for more."""
    return dict(*arguments, **named)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


