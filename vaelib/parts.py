"""Parts: the frozen, validated descriptions that an experiment is made of, and the torch modules that they build.

A *family* is an abstract part (a divergence, a latent, an objective) with a contract; a part of it is a class with a
``kind``, which defines its fields and fulfils the contract. Families are open: a part that is defined anywhere, in a
user's own file as well, can be used, stored and found again like those that come with the package.
"""

import hashlib
import json
from abc import ABC
from collections.abc import Iterator
from inspect import get_annotations
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import annotated_types
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from torch import nn

from vaelib.errors import Invalid

_MOST = 2**31
"""No whole number of an experiment is larger."""

Count = Annotated[int, Field(ge=1, le=_MOST)]
Several = Annotated[int, Field(ge=2, le=_MOST)]
Index = Annotated[int, Field(ge=0, le=_MOST)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A description: compared by value, hashable, never changed.

    Fields may be given by position. What is not allowed is refused with one sentence.

    Raises
    ------
    Invalid
        If a field is unknown, missing, or has a value that is not allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: ClassVar[str] = ""
    tensors: ClassVar[tuple[str, ...]] = ()
    """Fields that are tensors in the module that is built: what a stack of models may vary."""

    def __init__(self, /, *values: Any, **fields: Any):
        names = self._order()
        if len(values) > len(names):
            raise Invalid(type(self).__name__, values, f"given at most {len(names)} values: {', '.join(names)}")
        if twice := [name for name in names[: len(values)] if name in fields]:
            raise Invalid(twice[0], fields[twice[0]], "given once: it is there by position already")
        given = {**dict(zip(names, values)), **fields}
        try:
            super().__init__(**{name: _plain(value) for name, value in given.items()})
        except ValidationError as error:
            raise self._refusal(error.errors()[0]) from None

    @classmethod
    def _refusal(cls, error: ErrorDetails) -> Invalid:
        """What pydantic found, as one sentence."""
        raised = error.get("ctx", {}).get("error")
        if not error["loc"] and isinstance(raised, Invalid):
            return raised
        name = str(error["loc"][0]) if error["loc"] else cls.__name__
        if isinstance(raised, Invalid):
            return raised.within(name)
        if name not in cls.model_fields:
            return Invalid(
                name, error["input"], f"left out: {cls.__name__} has {', '.join(cls.model_fields) or 'no fields'}"
            )
        value = "nothing" if error["type"] == "missing" else error["input"]
        return Invalid(name, value, allowed(cls, name))

    @classmethod
    def _order(cls) -> list[str]:
        """The names of the fields as they may be given by position: a part's own before those that it inherits."""
        own = [name for base in cls.__mro__ for name in get_annotations(base)]
        return [name for name in dict.fromkeys(own) if name in cls.model_fields]

    def fields(self) -> Iterator[tuple[str, Any]]:
        """Names and values."""
        for name in type(self).model_fields:
            yield name, getattr(self, name)

    def replace(self, **fields: Any) -> Self:
        """The same with other values of some fields, validated."""
        return type(self)(**{**dict(self.fields()), **fields})

    def canonical(self, *, whole: bool = False) -> dict[str, Any]:
        """The description as plain values: one spelling for one meaning.

        Parameters
        ----------
        whole
            With what is as by default, too, which is otherwise left out.
        """
        default = {name: info.get_default() for name, info in type(self).model_fields.items()}
        taken = {n: _written(v, whole) for n, v in self.fields() if whole or v != default[n]}
        return {"kind": self.kind, **taken} if self.kind else taken

    @property
    def key(self) -> str:
        """The name of what is described: sha256 of the canonical JSON, in hexadecimal."""
        return key_of(self.canonical())

    def structure(self) -> tuple[Any, ...]:
        """What has to be equal for modules to be stacked: everything but the values of tensors."""
        return (
            type(self).__qualname__,
            *((n, v is None if n in self.tensors else _structure(v)) for n, v in self.fields()),
        )


class Family(Part, ABC):
    """An abstract part. Its direct subclasses are the families, theirs the kinds."""

    kinds: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if Family in cls.__bases__:
            cls.kinds = {}
        elif "kind" in cls.__dict__:
            cls.kinds[cls.kind] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if "kinds" in cls.__dict__:
            return core_schema.no_info_plain_validator_function(cls.parse)
        return handler(source)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """A member of this family from itself, its plain values, or its kind alone.

        Raises
        ------
        Invalid
            If the value is none of these, or no such kind is known.
        """
        if isinstance(value, cls):
            return value
        fields = {str(n): v for n, v in value.items()} if isinstance(value, dict) else {"kind": value}
        kind = fields.pop("kind", None)
        if not isinstance(kind, str) or kind not in cls.kinds:
            raise Invalid("", value, f"one of {', '.join(cls.kinds)}")
        found: Self = cls.kinds[kind](**fields)
        return found


class Built(nn.Module):
    """The module that a part builds: the part's tensors are its buffers, of the same names."""

    def __init__(self, part: Part):
        super().__init__()
        for name in part.tensors:
            value = getattr(part, name)
            self.register_buffer(name, None if value is None else torch.tensor(float(value)))


def key_of(plain: dict[str, Any]) -> str:
    """sha256 of plain values as canonical JSON, in hexadecimal."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def allowed(part: type[Part], field: str) -> str:
    """What a field may hold, in words."""
    info = part.model_fields[field]
    return _described(info.annotation, tuple(info.metadata))


def _described(annotation: Any, metadata: tuple[Any, ...]) -> str:
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        inner = tuple(m for a in arguments[1:] for m in getattr(a, "metadata", [a]))
        return _described(arguments[0], (*inner, *metadata))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(annotation) is tuple:
        return f"a list, each {_described(arguments[0], metadata)}"
    if arguments:  # a union
        return " or ".join("left out" if a is type(None) else _described(a, metadata) for a in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Family):
        return f"one of {', '.join(annotation.kinds)}"
    if annotation not in (int, float):
        return {bool: "true or false", str: "text"}.get(annotation) or str(annotation.__name__)
    number = "a whole number" if annotation is int else "a number"
    low, above, high = (_bound(metadata, kind, name) for kind, name in _BOUNDS)
    start = f" above {above:g}" if above is not None else f" from {low:g}" if low is not None else ""
    return number + start + (f" to {high:g}" if high is not None and high < _MOST else " up" if low is not None else "")


_BOUNDS = (annotated_types.Ge, "ge"), (annotated_types.Gt, "gt"), (annotated_types.Le, "le")


def _bound(metadata: tuple[Any, ...], kind: type[Any], name: str) -> float | None:
    return next((float(getattr(m, name)) for m in metadata if isinstance(m, kind)), None)


def _plain(value: Any) -> Any:
    """Numpy's numbers as Python's, lists as tuples, names as text, and one zero."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {str(name): _plain(v) for name, v in value.items()}
    return 0.0 if isinstance(value, float) and value == 0 else value


def _written(value: Any, whole: bool) -> Any:
    if isinstance(value, Part):
        return value.canonical(whole=whole)
    return [_written(v, whole) for v in value] if isinstance(value, tuple) else value


def _structure(value: Any) -> Any:
    if isinstance(value, Part):
        return value.structure()
    return tuple(map(_structure, value)) if isinstance(value, tuple) else value
