"""The commands of the training floor: train (training_command.py), evaluate, inspect (inspection.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onward.cli.console import (
    ArtifactName,
    AsJson,
    Overwrite,
    ProviderName,
    SignerKey,
    TrustWord,
    add_command,
    print_json,
    remark,
    say,
    say_next,
)
from onward.cli.console import app as make_app
from onward.cli.progress import progress
from onward.errors import UsageError
from onward_training.cli_options import (
    DataDir,
    Download,
    EntryName,
    ExifRule,
    FinalActivation,
    ImageSize,
    Mean,
    ModelArguments,
    NetworkOfWeights,
    ResizeRule,
    Std,
    WeightsOfModel,
    parse_arguments,
)
from onward_training.inspection import inspect
from onward_training.text import (
    print_evaluation,
    print_failures,
    print_notes,
)
from onward_training.training_command import train

__all__ = ["app", "evaluate", "inspect", "train"]

app = make_app("Train classifiers into checkpoints, and evaluate them.")


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|BUNDLE|WEIGHTS|MODEL",
            help="A checkpoint; a bundle; a weights file of any origin, with --model; or a model, with --weights.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Data set, as for train; by default the one that the model was trained on.")
    ] = None,
    data_dir: DataDir = None,
    model: NetworkOfWeights = None,
    weights: WeightsOfModel = None,
    download: Download = False,
    model_args: ModelArguments = "{}",
    final_activation: FinalActivation = "auto",
    image_size: ImageSize = None,
    resize: ResizeRule = None,
    mean: Mean = None,
    std: Std = None,
    exif: ExifRule = None,
    entry: EntryName = None,
    artifact: ArtifactName = "onnx",
    provider: ProviderName = "cpu",
    trust: TrustWord = False,
    key: SignerKey = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with learning curves, confusions and mistakes.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Classify the test images of a data set and compare with their labels.

    Examples:
        onward evaluate run.pt --html evaluation.html
        onward evaluate artifacts/digits --data folder:photos
        onward evaluate weights.pth --model torchvision:resnet18 --data folder:photos
        onward evaluate torchvision:resnet18 --weights DEFAULT --data folder:photos
    """
    from onward.files import check_new
    from onward.model_file import kind_of
    from onward_training.data import check
    from onward_training.model_argument import ModelArgument
    from onward_training.options import NetworkSpec
    from onward_training.preprocessing import StatedPreprocessing

    is_bundle = kind_of(Path(what)) == "bundle" and weights is None
    network = NetworkSpec(model, parse_arguments(model_args), final_activation, entry=entry)
    stated = StatedPreprocessing.parse(image_size, resize, mean, std, exif)
    if data is not None:
        check(data, data_dir=data_dir, image_size=stated.image_size, preprocess=stated.resize, exif=exif)
    if is_bundle:
        stated.check_none(f"{what} is a bundle")
        argument = ModelArgument(Path(what), None)
    else:
        argument = ModelArgument.parse(what, model, weights)
        if data is None and argument.is_foreign:
            raise UsageError(
                f"{argument.path} does not say what it was trained on: --data names images to evaluate it on."
            )
    if html is not None:
        check_new(html, overwrite)

    from dataclasses import replace

    from onward.bundle import FLOAT32
    from onward.bundle.trust import Trust
    from onward_training.evaluation_page import write_evaluation_page
    from onward_training.evaluator import ModelToEvaluate
    from onward_training.evaluator import evaluate as run
    from onward_training.import_weights import open_checkpoint
    from onward_training.label_order import check_label_order

    if is_bundle:
        opened = ModelToEvaluate.from_bundle(
            argument.path, artifact=artifact, provider=provider, trust=Trust.of(trust, key)
        )
    else:
        argument = argument.find(download=download, notify=remark)
        network = replace(network, model=argument.model)
        opened = ModelToEvaluate.from_checkpoint(
            open_checkpoint(argument.path, network, data=data, data_dir=data_dir, stated=stated, notify=remark)
        )
    dataset = opened.load_data(data, data_dir)
    print_notes(dataset)
    with progress("evaluate", len(dataset.test), unit="images") as advance:
        evaluation = run(opened.run, dataset.test, on_progress=advance)
    print_failures(dataset)
    if html is not None:
        write_evaluation_page(
            html,
            evaluation,
            signature=opened.signature,
            images=lambda index: dataset.test.read(slice(index, index + 1))[0][0],
            title=f"{Path(what).name} on {dataset.name}",
            file_of=dataset.test.file_of,
            history=opened.history,
            notes=dataset.notes,
        )
    order = check_label_order(opened.signature.labels, evaluation.predicted, evaluation.targets)
    missing = [opened.signature.labels[index] for index in evaluation.missing_classes]
    if as_json:
        more = {
            "missing_classes": missing,
            "label_order": order.to_json(),
            "artifact": opened.artifact.name if opened.artifact else None,
            "artifact_precision": opened.artifact.precision if opened.artifact else FLOAT32,
        }
        print_json(evaluation.to_json(dataset.test.file_of) | more)
    else:
        if opened.artifact and not opened.artifact.is_float32:
            remark(opened.artifact.describe())
        print_evaluation(evaluation, opened.signature.labels, dataset.test.file_of)
        if order.warning:
            remark(f"warning: {order.warning}")
        if html is not None:
            say(f"page: {html}")
        if is_bundle:
            say_next(("bench", what), ("embed", what, "--target", "python"))
        else:
            said = {"--weights": weights, "--model": model, "--model-args": model_args}
            said |= {"--data": data, "--data-dir": data_dir}
            said |= {"--image-size": image_size, "--resize": resize, "--mean": mean, "--std": std}
            said |= {"--exif": exif, "--entry": entry}
            given = {name: value for name, value in said.items() if value not in (None, "{}")}
            given = given if model or weights else {}
            say_next(("export", what, *(part for pair in given.items() for part in pair)))
    if evaluation.num_unanswered:
        raise typer.Exit(1)


for _command in (train, evaluate, inspect):
    add_command(app, _command)
