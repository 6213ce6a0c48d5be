"""A model written to files for use elsewhere, each read again and compared with the model, with a model card."""

from medrobust.exporting.formats import EXPORT_FORMATS, ExportFormat
from medrobust.exporting.writing import Exported, export

__all__ = ["EXPORT_FORMATS", "ExportFormat", "Exported", "export"]
