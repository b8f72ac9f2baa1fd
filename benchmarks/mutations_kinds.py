"""Ways to damage a file of a bundle, drawn at random: in its bytes, or by what stands in its place."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.registry.files import BYTES_MAX, REPORT_BYTES_MAX

Chance = random.Random
Change = Callable[[bytes, Chance], bytes]
STRANGE = (
    "0", "-1", "1", "2147483647", "2147483648", "-2147483648", "4294967296", "9223372036854775808", "1e308", "-1e308",
    "1e-320", "nan", "inf", "-inf", "1e999", "0x10", "1_0", "++1", "", "99999999999999999999999",
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def _span(content: bytes, chance: Chance, most: int = 64) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(len(content), start + chance.randint(1, most))


def flip_bit(content: bytes, chance: Chance) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def change_byte(content: bytes, chance: Chance) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= chance.randint(1, 255)
    return bytes(changed)


def truncate(content: bytes, chance: Chance) -> bytes:
    return content[: chance.randrange(len(content))]


def drop_bytes(content: bytes, chance: Chance) -> bytes:
    start, end = _span(content, chance)
    return content[:start] + content[end:]


def insert_bytes(content: bytes, chance: Chance) -> bytes:
    at = chance.randint(0, len(content))
    return content[:at] + chance.randbytes(chance.randint(1, 64)) + content[at:]


def double_bytes(content: bytes, chance: Chance) -> bytes:
    start, end = _span(content, chance, 4096)
    return content[:end] + content[start:end] + content[end:]


def zero_bytes(content: bytes, chance: Chance) -> bytes:
    start, end = _span(content, chance, 512)
    return content[:start] + bytes(end - start) + content[end:]


def lengthen(content: bytes, chance: Chance) -> bytes:
    return content + chance.choice([b"\n", b"\0", b" ", content, chance.randbytes(1000), b"Tree=0\n"])


def _lines(change: Callable[[list[bytes], Chance], object]) -> Change:
    def changed(content: bytes, chance: Chance) -> bytes:
        lines = content.split(b"\n")
        change(lines, chance)
        return b"\n".join(lines)

    return changed


def _swap(lines: list[bytes], chance: Chance) -> None:
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


def _double(lines: list[bytes], chance: Chance) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


swap_lines = _lines(_swap)
drop_line = _lines(lambda lines, chance: lines.pop(chance.randrange(len(lines))))
double_line = _lines(_double)


def change_number(content: bytes, chance: Chance) -> bytes:
    """Put a strange number, another one of the file, or a near one in the place of a number."""
    found = list(NUMBER.finditer(content))
    if not found:
        return change_byte(content, chance)
    old = chance.choice(found)
    near = b"%d" % (int(old[0].split(b".")[0].split(b"e")[0] or b"0") + chance.choice([-1, 1]))
    digit = flip_digit(old[0], chance)
    new = chance.choice([chance.choice(STRANGE).encode(), chance.choice(found)[0], near, digit])
    return content[: old.start()] + new + content[old.end() :]


def flip_digit(number: bytes, chance: Chance) -> bytes:
    digits = [i for i, byte in enumerate(number) if chr(byte).isdigit()]
    at = chance.choice(digits)
    return number[:at] + str(chance.randrange(10)).encode() + number[at + 1 :]


def empty(content: bytes, chance: Chance) -> bytes:
    return b""


def with_sizes(change: Change) -> Change:
    """Damage a model text, and correct what its header says of the trees' sizes."""

    def changed(content: bytes, chance: Chance) -> bytes:
        new = change(content, chance)
        trees = re.split(rb"(?=^Tree=)", new.split(b"end of trees")[0], flags=re.MULTILINE)[1:]
        sizes = b" ".join(b"%d" % len(tree) for tree in trees)
        return re.sub(rb"^tree_sizes=.*", b"tree_sizes=" + sizes, new, count=1, flags=re.MULTILINE)

    return changed


def change_json(content: bytes, chance: Chance) -> bytes:
    """Replace, drop or nest a value of a JSON file."""
    whole: Any = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(whole)
    holder, key = chance.choice(places)
    other_holder, other_key = chance.choice(places)
    strange: list[Any] = [
        None, True, -1, 1e308, 2**63, "", "x" * 5000, "\x00\n\x1b[31m", [], {}, [[]] * 50, "../../etc/passwd",
        other_holder[other_key],
    ]  # fmt: skip
    if isinstance(holder, dict) and chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = json.loads(json.dumps(chance.choice(strange)))
    return json.dumps(whole, indent=1).encode()


def nest_json(content: bytes, chance: Chance) -> bytes:
    deep = chance.choice([500, 5_000, 100_000])
    inner = b"[" * deep + b"]" * deep if chance.random() < 0.5 else b'{"a":' * deep + b"1" + b"}" * deep
    return content.rstrip()[:-1] + b', "training": ' + inner + b"}\n"


def change_table(content: bytes, chance: Chance) -> bytes:
    """Rewrite a Parquet file with other rows, columns, types, packing or a bomb."""
    table = pq.read_table(io.BytesIO(content))
    name = chance.choice(table.column_names)
    at = table.schema.get_field_index(name)
    values = table[name].to_numpy().astype(np.float64)
    rows = np.arange(len(table))
    chance.shuffle(rows)  # type: ignore[arg-type]
    values[chance.randrange(len(values))] += chance.choice([1.0, -0.5, np.nan, np.inf, 1e-12])
    options: list[Callable[[], pa.Table]] = [
        lambda: table.drop_columns([name]),
        lambda: table.append_column(f"{name}_more", table[name]),
        lambda: table.rename_columns([f"{n}x" if n == name else n for n in table.column_names]),
        lambda: table.set_column(at, name, pa.array(values)),
        lambda: table.set_column(at, name, pa.array([str(v) for v in values])),
        lambda: table.set_column(at, name, pa.array([None] * len(table), pa.float64())),
        lambda: table.set_column(at, name, table[name].take(pa.array(rows))),
        lambda: table.slice(0, chance.randrange(len(table))),
        lambda: pa.concat_tables([table] * chance.choice([2, 20])),
        lambda: pa.table({n: np.zeros(3_000_000 // table.num_columns) for n in table.column_names}),
    ]
    written = io.BytesIO()
    pq.write_table(chance.choice(options)(), written, compression=chance.choice(["zstd", "snappy", "none"]))
    return written.getvalue()


ANY: dict[str, Change] = {
    change.__name__: change
    for change in (
        flip_bit, change_byte, truncate, drop_bytes, insert_bytes, double_bytes, zero_bytes, lengthen, empty,
    )
}  # fmt: skip
TEXT: dict[str, Change] = {
    "swap_lines": swap_lines, "drop_line": drop_line, "double_line": double_line, "change_number": change_number,
}  # fmt: skip
JSON: dict[str, Change] = {"change_json": change_json, "nest_json": nest_json}


def changes_of(name: str) -> dict[str, Change]:
    """Return what can be done to the bytes of a file, by kind."""
    if name == "booster.txt":
        sized = {f"{kind}_sized": with_sizes(change) for kind, change in {**ANY, **TEXT}.items()}
        numbers = {f"change_number_sized_{i}": with_sizes(change_number) for i in range(4)}
        return {**ANY, **TEXT, **sized, **numbers}
    if name == "golden.parquet":
        return {**ANY, "change_table": change_table, "change_table_again": change_table}
    return {**ANY, **TEXT, **(JSON if name.endswith(".json") else {})}


@dataclass(frozen=True, slots=True)
class Others:
    """Where files that are something else come from.

    Attributes:
        bundle: another model's bundle.
        base: the bundle that is damaged.
    """

    bundle: Path
    base: Path


def _by_link(path: Path, chance: Chance, others: Others) -> None:
    path.unlink()
    path.symlink_to(chance.choice([others.base / path.name, Path("/dev/zero"), Path("nowhere"), path]))


def _by_folder(path: Path, chance: Chance, others: Others) -> None:
    path.unlink()
    path.mkdir()


def _by_pipe(path: Path, chance: Chance, others: Others) -> None:
    path.unlink()
    os.mkfifo(path)


def _removed(path: Path, chance: Chance, others: Others) -> None:
    path.unlink()


def _huge(path: Path, chance: Chance, others: Others) -> None:
    most = BYTES_MAX.get(path.name, REPORT_BYTES_MAX)
    with path.open("r+b") as file:
        file.truncate(chance.choice([most + 1, 1 << 40]))


def _another_models(path: Path, chance: Chance, others: Others) -> None:
    name = "report/report.md" if path.parent.name == "report" else path.name
    shutil.copy(others.bundle / name, path)


def _another_file(path: Path, chance: Chance, others: Others) -> None:
    names = [p for p in others.base.iterdir() if p.is_file() and p.name != path.name]
    shutil.copy(chance.choice(names), path)


def _extra(path: Path, chance: Chance, others: Others) -> None:
    name = chance.choice([f"{path.name}.bak", ".hidden", "model.pkl", "\n", "x" * 200])
    (path.parent / name).write_bytes(chance.randbytes(10))


PLACES: dict[str, Callable[[Path, Chance, Others], None]] = {
    "link": _by_link, "folder": _by_folder, "pipe": _by_pipe, "removed": _removed, "huge": _huge,
    "another_models": _another_models, "another_file": _another_file, "extra": _extra,
}  # fmt: skip
