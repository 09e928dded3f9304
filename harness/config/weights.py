"""What stands under `weights:` in a study: what a training starts from, or what is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic import model_validator as whole_validator

from harness.config.settings import Settings

Part = Literal["backbone", "neck", "head"]


class Weights(Settings):
    """Weights that exist already, and what of them is taken."""

    model_config = ConfigDict(populate_by_name=True)

    source: Annotated[str, Field(min_length=1, alias="from")]
    """A file, a folder of ours, or a release: `coco`, `objects365`, `person`, `imagenet`."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] | None = None
    """Stages that are taken; the others start anew. Null for all that the file holds."""
    classes: Literal["auto", "by_name", "fresh", "same"] = "auto"
    """`by_name` takes what belongs to a class by the class's name, `fresh` starts all of that anew,
    `same` takes it in its order, whatever the names are. `auto` is `by_name` where the weights know
    every class of the data set, else `fresh`."""

    @field_validator("parts", mode="before")
    @classmethod
    def _single(cls, given: Any) -> Any:
        """Read one part alone."""
        return (given,) if isinstance(given, str) else given

    @whole_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Read a bare string."""
        if isinstance(given, str):
            return {"from": given}
        if not isinstance(given, Mapping | Weights):
            raise ValueError("expected a file, a folder, the name of a release, or null")
        return given

    @whole_validator(mode="after")
    def _each_part_once(self) -> Weights:
        if self.parts and len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts: one stands twice among {', '.join(self.parts)}")
        return self

    def flat(self) -> dict[str, Any]:
        """Return every knob by its path, as it stands in a record."""
        plain = self.model_dump(mode="json", by_alias=True)
        return {f"weights.{name}": value for name, value in plain.items()}
