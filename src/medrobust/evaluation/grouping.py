"""The groups that images are of: what the columns named by the user say of each, numbers as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medrobust.data.dataset import Sample
from medrobust.data.groups import GroupColumn, group_labels

Groups = list[dict[str, str | None]]


def named_values(sample: Sample, columns: Sequence[GroupColumn]) -> Groups | None:
    """The sample's own values of the columns, as the records hold groups; None when there is no column."""
    return [{"column": one.name, "group": sample.columns.get(one.name)} for one in columns] or None


def group_rows(rows: Sequence[dict[str, object]], columns: Sequence[GroupColumn]) -> None:
    """Put the groups of all images in the place of their values, in the rows of a run.

    Only with all values at hand is it known whether they are numbers, and where their thirds lie.

    Args:
        rows: records, whose "groups" are the `named_values` of each image; they are changed.
        columns: that these values are of.
    """
    if not columns:
        return
    values: dict[object, Groups] = {row["index"]: row["groups"] for row in rows}  # type: ignore[misc]
    grouped: Mapping[object, Groups] = {index: [] for index in values}
    for place, column in enumerate(columns):
        labels = group_labels(column, [of_image[place]["group"] for of_image in values.values()])
        for of_image, label in zip(grouped.values(), labels, strict=True):
            of_image.append({"column": column.name, "group": label})
    for row in rows:
        row["groups"] = grouped[row["index"]]
