"""The files that a model is exported to: how each is written, and how it is read and run again."""

from __future__ import annotations

import importlib
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medrobust.errors import InputError, MedrobustError, MissingExtraError, unknown
from medrobust.models.onnx_file import EXPORTED, OnnxModel

TOLD = "medrobust.json"  # what is told of the model inside the files
INPUT, OUTPUT = "images", "outputs"

Write = Callable[[nn.Module, Tensor, Path, str], None]
"""`write(model, images, path, told)`: `images` `(2, C, *spatial)` are an example, `told` goes along as text."""
Read = Callable[[Path], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file.

    Attributes:
        place: the file's name.
        write: makes it, for batches of any size.
        read: reads it again, as its users do, into a function of images.
        summary: what it is for, in a line.
    """

    place: str
    write: Write
    read: Read
    summary: str


def write_torchscript(model: nn.Module, images: Tensor, path: Path, told: str) -> None:
    """Trace the model and save it, without the places of the source files on this machine."""
    traced = torch.jit.trace(model, images, check_trace=False)  # type: ignore[no-untyped-call]
    traced_path = path.with_name(f"{path.name}.traced")
    torch.jit.save(traced, str(traced_path), _extra_files={TOLD: told})
    with zipfile.ZipFile(traced_path) as written, zipfile.ZipFile(path, "w") as kept:
        for record in written.infolist():
            if not record.filename.endswith(".debug_pkl"):
                kept.writestr(record, written.read(record))
    traced_path.unlink()


def read_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    """The program of a TorchScript file, on the CPU."""
    program: Callable[[Tensor], Tensor] = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return program


def write_exported_program(model: nn.Module, images: Tensor, path: Path, told: str) -> None:
    """Save what `torch.export` makes of the model."""
    torch.export.save(_exported(model, images), path, extra_files={TOLD: told})


def read_exported_program(path: Path) -> Callable[[Tensor], Tensor]:
    """The program of a `.pt2` file."""
    program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return program


def write_onnx(model: nn.Module, images: Tensor, path: Path, told: str) -> None:
    """Save the model as ONNX, whole in one file."""
    for package in ("onnxscript", "onnxruntime"):  # to write it, and to read it: told before the work
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtraError(package, "onnx") from error
    made = torch.onnx.export(
        _exported(model, images), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert made is not None
    made.model.metadata_props[EXPORTED] = told
    made.save(path, external_data=False)


def read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as `--model onnx:` runs it."""
    return OnnxModel(path)


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat("model.onnx", write_onnx, read_onnx, "for ONNX Runtime and most others (extra: onnx)"),
    "torchscript": ExportFormat("model.pt", write_torchscript, read_torchscript, "for LibTorch, by torch.jit.load"),
    "torch-export": ExportFormat("model.pt2", write_exported_program, read_exported_program, "by torch.export.load"),
}


def export_format(name: str) -> ExportFormat:
    """A format by its name.

    Raises:
        InputError: there is none.
    """
    if name not in EXPORT_FORMATS:
        raise unknown("export format", name, EXPORT_FORMATS)
    return EXPORT_FORMATS[name]


def written_and_read(
    format: ExportFormat,  # noqa: A002 – what it is called everywhere
    model: nn.Module,
    images: Tensor,
    path: Path,
    told: str,
) -> Callable[[Tensor], Tensor]:
    """Write the file of a format, and give what is read of it.

    Raises:
        InputError: the model cannot be written so, in a line.
        MissingExtraError: what the format needs is not installed.
    """
    try:
        with _quiet(), torch.no_grad():
            format.write(model, images, path, told)
            return format.read(path)
    except (MedrobustError, OSError):
        raise
    except Exception as error:  # exporters raise whatever the model's code made of what they gave it
        raise InputError(_reason(error)) from error


def _exported(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """The program for batches of any size, without the places of source files on this machine."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images,), dynamic_shapes={"images": {0: batch}}, strict=False)
    for module in program.graph_module.modules():
        graph = getattr(module, "graph", None)
        for node in getattr(graph, "nodes", ()):
            for place in ("stack_trace", "from_node"):
                node.meta.pop(place, None)
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn developers of what is checked here anyway."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """What is at the bottom of an exporter's error, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
