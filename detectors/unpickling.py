"""Pickles, read without importing, calling or building anything that they name.

Python's reader calls what a pickle asks for. This one goes through the instructions itself and
makes tensors, lists, tuples, dicts and plain values; whatever else a pickle names becomes an inert
`Opaque`.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
"""What the storages of tensors hold; others are opaque."""
MAX_DIMS = 16  # of a tensor
MAX_KEY = 2**32  # of numbers that something is kept under: chosen ones beyond could all collide
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"}
)  # instructions that carry the value they make
_IGNORED = frozenset({"PROTO", "FRAME"})
_EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class UnpicklingError(ValueError):
    """A pickle that is damaged, or that makes no sense as a file of weights."""


class Opaque:
    """What stands for anything that is neither a tensor nor a plain value."""

    def __init__(self, name: str) -> None:
        self.name = name  # of what was called, for messages


class Named:
    """A class or function that a pickle names, which is never looked up."""

    def __init__(self, name: str) -> None:
        self.name = name


class Storage(NamedTuple):
    """The numbers that tensors are views of."""

    data: Tensor  # [N], of `dtype`
    untyped: bool = False  # whether the tensors say what the bytes are


Fetch = Callable[[str, int], Tensor]
"""Returns so many bytes of the storage that has a key, as a tensor of uint8."""


def read(stream: BinaryIO, fetch: Fetch) -> Any:
    """Return what a pickle holds; the stream is left behind its end.

    Args:
        stream: at the beginning of the pickle.
        fetch: that finds the bytes of storages.

    Raises:
        UnpicklingError: it is damaged.
    """
    try:
        return _Machine(fetch).run(stream)
    except UnpicklingError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UnpicklingError(f"a damaged pickle: {error}") from error


class _Machine:
    """A stack, and the values that instructions wrote down for later."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, str], Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """Follow the instructions to the end."""
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _EMPTY:
                self.stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                self.stack.append(tuple(self.take(len(self.stack) - _TUPLES[name])))
            elif name not in _IGNORED:
                self.step(name, argument)
        raise UnpicklingError("a pickle without an end")

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction that needs more than its argument."""
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("POP", "POP_MARK", "DUP"):
            self.drop_or_double(name)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.note(len(self.memo) if argument is None else argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("LIST", "TUPLE", "DICT", "FROZENSET"):
            self.collect(name)
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            self.extend(name)
        elif name in ("PERSID", "BINPERSID"):
            self.stack.append(self.storage(self.pop() if argument is None else argument))
        else:
            self.make(name, argument)

    def make(self, name: str, argument: Any) -> None:
        """Follow an instruction that names or calls something."""
        if name == "GLOBAL":
            self.stack.append(Named(str(argument).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, attribute = self.take(len(self.stack) - 2)
            self.stack.append(Named(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self.take(len(self.stack) - 2)
            self.stack.append(_call(function, arguments))
        elif name == "NEWOBJ_EX":
            self.stack.append(_opaque(self.take(len(self.stack) - 3)[0]))
        elif name == "BUILD":
            self.pop()  # attributes, which nothing here has
        elif name == "OBJ":
            self.stack.append(_opaque(self.take(self.mark())[0]))
        elif name == "INST":
            self.take(self.mark())
            self.stack.append(Opaque(str(argument).replace(" ", ".")))
        elif name in ("EXT1", "EXT2", "EXT4"):
            self.stack.append(Opaque("an extension"))
        else:
            raise UnpicklingError(f"an instruction that no file of weights has: {name}")

    def note(self, number: int) -> None:
        """Write the last value down."""
        if not 0 <= number < MAX_KEY:
            raise UnpicklingError("a pickle that notes more values than any has")
        self.memo[number] = self.stack[-1]

    def pop(self) -> Any:
        """Take the last value from the stack."""
        return self.take(len(self.stack) - 1)[0]

    def take(self, height: int) -> list[Any]:
        """Take all above a height from the stack."""
        if height < (self.marks[-1] if self.marks else 0):
            raise UnpicklingError("a pickle that takes more values than it has made")
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def mark(self) -> int:
        """Return the height of the last mark, and forget it."""
        return self.marks.pop()

    def drop_or_double(self, name: str) -> None:
        """Leave values out, or repeat the last."""
        if name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP_MARK" or (self.marks and self.marks[-1] == len(self.stack)):
            self.take(self.mark())
        else:
            self.pop()

    def collect(self, name: str) -> None:
        """Make a collection of all above the mark."""
        values = self.take(self.mark())
        if name == "DICT":
            self.stack.append(dict(_plain_keys(values)))
        else:
            self.stack.append(tuple(values) if name == "TUPLE" else values)

    def extend(self, name: str) -> None:
        """Add to the collection that lies below."""
        one = {"APPEND": 1, "SETITEM": 2}.get(name)
        values = self.take(self.mark() if one is None else len(self.stack) - one)
        target = self.stack[-1]
        if name in ("SETITEM", "SETITEMS") and isinstance(target, dict):
            target.update(_plain_keys(values))
        elif isinstance(target, list):
            target.extend(values)

    def storage(self, told: Any) -> Any:
        """Return the storage that a pickle refers to."""
        if not isinstance(told, tuple) or len(told) not in (5, 6) or told[0] != "storage":
            raise UnpicklingError("a pickle that refers to something else than numbers")
        _, kind, key, _, count = told[:5]
        if len(told) == 6 and told[5] is not None:
            raise UnpicklingError("a storage that is a part of another; save it anew")
        if not isinstance(kind, Named) or not isinstance(key, str) or not _is_count(count):
            raise UnpicklingError("a storage without kind, key or size")
        name = kind.name.rpartition(".")[2]
        if name not in DTYPES:
            return Opaque(kind.name)
        if (key, name) not in self.storages:
            dtype = DTYPES[name]
            data = self.fetch(key, count * dtype.itemsize).view(dtype)
            self.storages[key, name] = Storage(data, name == "UntypedStorage")
        return self.storages[key, name]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _plain_keys(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the items whose key is plain; comparing others may take for ever."""
    if len(values) % 2:
        raise UnpicklingError("a dict with a key and no value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        small = isinstance(key, int) and abs(key) < MAX_KEY
        if key is None or small or isinstance(key, str | bytes):
            yield key, value


def _opaque(function: Any) -> Opaque:
    return Opaque(function.name if isinstance(function, Named) else type(function).__name__)


def _call(function: Any, arguments: Any) -> Any:
    """Return what a call stands for: a tensor or a plain value, else something opaque."""
    name = function.name if isinstance(function, Named) else ""
    if not isinstance(arguments, tuple):
        raise UnpicklingError("a call without its arguments")
    if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        return _tensor(arguments[:4], None)
    if name == "torch._utils._rebuild_tensor_v3":
        return _tensor(arguments[:4], arguments[6])
    if name.startswith("torch._utils._rebuild_parameter"):
        return arguments[0] if isinstance(arguments[0], Tensor) else _opaque(function)
    if name == "torch._tensor._rebuild_from_type_v2":  # a tensor with attributes
        return _call(arguments[0], arguments[2])
    if name == "torch.Size" and len(arguments) == 1 and isinstance(arguments[0], list | tuple):
        return tuple(arguments[0][: MAX_DIMS + 1])
    if name == "collections.OrderedDict" and not arguments:
        return {}
    return _opaque(function)


def _tensor(arguments: tuple[Any, ...], kind: Any) -> Any:
    """Return a tensor that lies within its storage; one that repeats numbers is opaque."""
    storage, offset, size, stride = arguments
    if isinstance(storage, Opaque):
        return storage
    if not isinstance(storage, Storage) or not isinstance(size, tuple | list):
        raise UnpicklingError("a tensor without numbers or shape")
    if not isinstance(stride, tuple | list) or not _is_count(offset) or len(stride) != len(size):
        raise UnpicklingError("a tensor without strides")
    if not all(map(_is_count, (*size, *stride))) or len(size) > MAX_DIMS:
        raise UnpicklingError("a tensor of an impossible shape")
    data = storage.data
    if storage.untyped:
        name = kind.name if isinstance(kind, Named) else "no type"
        dtype = next((dtype for dtype in DTYPES.values() if str(dtype) == name), None)
        if dtype is None:
            return Opaque(f"a tensor of {name}")
        data = data.view(dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and last >= len(data):
        raise UnpicklingError("a tensor that reaches beyond its numbers")
    if count > len(data):
        return Opaque("a tensor that repeats its numbers")
    return torch.as_strided(data, size, stride, offset if count else 0)
