"""`prismhub export`: an archive as a Parquet file, or a model that leaves PyTorch; what is named decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core_encoder.errors import InputError
from core_encoder.files.hub import HUB_ID
from core_encoder.files.storage import expanded, is_folder, nearest
from prismhub.archive.schema import DATABASE
from prismhub.exporting.export_settings import ExportSettings, not_exported
from prismhub.printing import print_json
from prismhub.progress import SILENT, Show
from prismhub.settings import RunningSettings, refuse_given

if TYPE_CHECKING:
    from adapters.card import AdapterInfo
    from prismhub.exporting.model_folder import ExportedModel
    from prismhub.exporting.subjects import Subject


def export(settings: ExportSettings, show: Show = SILENT) -> int | ExportedModel:
    """Write an archive to a Parquet file, and return how many scenes; or a model to a folder. Whole or not at all.

    Raises:
        InputError: nothing of this name, options that mean nothing for it, a package that is missing, a place that
            holds something else, a model that has no graph or gives other numbers as one, or the disk is full.
    """
    if is_folder(settings.source) and (expanded(settings.source) / DATABASE).is_file():
        from prismhub.archive.parquet import write_parquet

        refuse_given(settings.model, f"{settings.source}: is an archive, not a model")
        return write_parquet(expanded(settings.source), settings.out, settings.archive)
    if settings.out.suffix.lower() == ".parquet":
        raise InputError(f"{settings.source}: is no archive, which alone becomes a .parquet file")
    return _export_model(settings, show)


def _export_model(settings: ExportSettings, show: Show) -> ExportedModel:
    from prismhub.exporting.formats import check_installed
    from prismhub.exporting.target_folder import check_folder

    refuse_given(settings.archive, f"{settings.source}: is no archive")
    adapter = _find_adapter(settings.source)
    if adapter is None:
        refuse_given(settings.model, f"{settings.source}: is an encoder, not an adapter", but=("format", "int8"))
    elif adapter.targets.kind == "text":
        raise not_exported(adapter.kind)
    name, out = settings.model.format or "onnx", expanded(settings.out)
    check_installed(name)
    check_folder(out)

    from prismhub.exporting.model_folder import write_model

    return write_model(_subject(settings, adapter), out, name, settings.model.int8, show)


def _find_adapter(source: str) -> AdapterInfo | None:
    """What the adapter called `source` records; None where it is an encoder.

    Raises:
        InputError: there is neither.
    """
    from adapters.card import CONFIG_FILE
    from adapters.registry import describe_adapter, registry_folder
    from core_encoder.models.known_encoders import encoder_path, encoders

    registered = {path.name for path in registry_folder().glob("*")}
    if (expanded(source) / CONFIG_FILE).is_file() or source.partition("@")[0] in registered:
        return describe_adapter(source)
    known = [one.name for one in encoders()]
    looks_like_path = source.startswith(("/", ".", "~")) or source.count("/") > 1
    if not (is_folder(source) or looks_like_path or "/" in source or source in known or source.endswith(".npz")):
        raise InputError(
            f"no adapter, encoder or archive is called {source!r}{nearest(source, registered.union(known))}"
        )
    path = encoder_path(source)
    if path is not None and path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{source}: holds no archive ({DATABASE}), adapter ({CONFIG_FILE}) or encoder (config.json)")
    if path is None and source not in known and HUB_ID.fullmatch(source):
        try:
            return describe_adapter(source)
        except InputError:  # an encoder, or nothing, which opening it will say
            return None
    return None


def _subject(settings: ExportSettings, info: AdapterInfo | None) -> Subject:
    """What is exported, loaded in float32 on the CPU."""
    from prismhub.exporting.subjects import adapter_subject, encoder_subject
    from prismhub.features import open_encoder

    if info is None:
        return encoder_subject(open_encoder(settings.source, "cpu"))
    from adapters.registry import load_adapter
    from prismhub.questions import section_names
    from prismhub.saved import moved_parts, recorded_encoder

    options = settings.model
    running = RunningSettings(encoder=options.encoder, accelerator="cpu", text_tower=options.text_tower)
    moved, encoder = moved_parts([info], running)[0], None
    if options.with_encoder:
        if info.features is None:
            raise InputError(f"adapter {settings.source!r} does not record which encoder it was trained on")
        encoder = recorded_encoder([info], running, replace(info.features, precision="fp32"))
    adapter = load_adapter(settings.source, encoder, moved=moved)
    own = adapter.find_encoder() if options.with_encoder else None  # with its LoRA, where it has one
    return adapter_subject(adapter, section_names([settings.source])[0], own)


def print_export(settings: ExportSettings) -> None:
    """Write an archive to one Parquet file, or an adapter or encoder to a folder that runs without PyTorch.

    Example: prismhub export my-adapter --with-encoder --format onnx --out exported
    """
    done = export(settings, Show(settings.output.quiet))
    if isinstance(done, int):
        if settings.output.json:
            print_json({"file": str(settings.out), "scenes": done})
        else:
            print(f"{settings.out}: {done} scenes")
        return
    if settings.output.json:
        differs = {} if done.int8_difference is None else {"int8_difference": done.int8_difference}
        graphs = [one.describe() for one in done.graphs]
        print_json({"folder": str(done.folder), "bytes": done.bytes, "graphs": graphs, **differs})
        return
    if done.int8_difference is not None:
        print(f"int8 weights change what comes out by {done.int8_difference:.2g} of its largest value")
    print(f"{done.folder}: {', '.join(one.file for one in done.graphs)}; README.md says how to use it")
