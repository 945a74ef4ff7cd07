"""The public functions of the runtime: load, verify, predict, bench, embed, keygen, sign and inspect.

Each function does what the command of its name does, and returns a value instead of printing one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.bundle import Bundle
from onward.bundle.trust import Trust

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onward.backends import Threads
    from onward.backends.providers import AnyProvider
    from onward.benchmarking.report import Report
    from onward.benchmarking.spec import BenchKeywords
    from onward.bundle.keys import KeyPair
    from onward.bundle.signing import Signed
    from onward.bundle.verification import Verification
    from onward.classifier import Classifier
    from onward.embedding import Embedding, EmbedKeywords
    from onward.prediction import PredictKeywords, Summary

__all__ = ["bench", "embed", "inspect", "keygen", "load", "predict", "sign", "verify"]


def load(
    path: str | os.PathLike[str],
    *,
    artifact: str = "onnx",
    provider: AnyProvider = "cpu",
    threads: int | Threads | None = None,
    spin: bool = True,
    trust: bool = False,
    key: str | Path | None = None,
    exif: str | None = None,
) -> Classifier:
    """Open a bundle for classifying; no PyTorch is needed.

    Args:
        path: The bundle's folder.
        artifact: Its name: `onnx`; `torchscript` or `pt2`, which need PyTorch; or one of lower precision, `onnx-int8`.
        provider: An execution provider. A single provider is strict: there is no fallback. `cuda,cpu`, or a list, lets
            the CPU run what CUDA leaves; a `ProviderRequest` carries options.
        threads: How many threads one inference may use. Default: every core that this process may use.
        spin: Whether onnxruntime's threads wait busily for the next inference: faster for small models called in a row,
            and they take the cores from everything else. Turn it off where several processes share the cores.
        trust: Whether you trust whoever made the bundle: files in it that can run code are opened, too. What you
            exported on this machine is trusted anyway.
        key: A public key that must have signed the bundle; it is trusted then.
        exif: `apply` or `ignore` the EXIF orientation of images. Default: what the signature says, as in training.

    Returns:
        `classifier(images) -> Predictions`, for arrays, Pillow images, paths, bytes and open files, one or many, from
        any number of threads, in forked processes and after pickling, too; `classifier.signature`;
        `classifier.verify()` proves parity again on this machine.

    Raises:
        BackendError: The artifact cannot be run here.
        BundleError: There is no bundle, it was changed, or the key did not sign it.
        ProviderError: The provider is missing or did not take the model.
        TrustError: The artifact can run code, and the bundle is not trusted.
        UsageError: The number of threads is not from 1.
    """
    from onward.backends import Threads
    from onward.classifier import load as load_classifier

    chosen = Threads.of(threads, spin)
    return load_classifier(
        path, artifact=artifact, provider=provider, threads=chosen, trust=Trust.of(trust, key), exif=exif
    )


def verify(
    bundle: Bundle | str | Path,
    *,
    artifacts: Sequence[str] | None = None,
    provider: AnyProvider = "cpu",
    trust: bool = False,
    key: str | Path | None = None,
) -> list[Verification]:
    """Prove again, on this machine, that each artifact is as close to the mathematical model as PyTorch is.

    Args:
        bundle: The bundle's folder, or an opened bundle.
        artifacts: Names; by default all. Those that need PyTorch are skipped where it is not installed, and those that
            can run code where the bundle is not trusted.
        provider: As for `load`.
        trust, key: As for `load`.

    Returns:
        One `Verification` for each artifact; `passed` is its verdict. One of lower precision than float32 must give
        the outputs that it gave when it was built, up to a small multiple of its quantisation error.

    Raises:
        BackendError: An artifact that was named cannot be run here.
        BundleError: A file is missing or changed, the manifest does not name it, or the key did not sign the bundle.
        ProviderError: The provider is missing or did not take the model.
        TrustError: An artifact that was named can run code, and the bundle is not trusted.
    """
    from onward.bundle.verification import verify as run

    return run(_opened(bundle, trust, key), artifacts=artifacts, provider=provider)


def predict(
    bundle: Bundle | str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    artifact: str = "onnx",
    provider: AnyProvider = "cpu",
    column: str | None = None,
    trust: bool = False,
    key: str | Path | None = None,
    **options: Unpack[PredictKeywords],
) -> Summary:
    """Classify every input and write one row for each, in their order.

    Args:
        bundle: The bundle's folder, or an opened bundle.
        inputs: Folders, images, .npy, .npz and IDX files, tar shards, Parquet and CSV tables, or patterns.
        out: The file of rows: .csv, .jsonl, .parquet or .npy.
        artifact: As for `load`.
        provider: As for `load`.
        column: Of a table, the column that holds the images or their paths.
        trust, key: As for `load`.
        options: As `onward.prediction.PredictOptions` has them: `top_k`, `logits`, `batch_size`, `resume` …

    Returns:
        Counts, times, and the first inputs that could not be read.

    Raises:
        BundleError: There is no bundle, it was changed, or the key did not sign it.
        DataError: An input is missing, or the inputs are not those of the run that is resumed.
        OutputError: The output cannot be written.
        TrustError: The artifact can run code, and the bundle is not trusted.
        UsageError: An option is out of range.
    """
    from onward.prediction import PredictOptions, open_engine
    from onward.prediction import predict as run
    from onward.sources import open_sources

    paths = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    options.setdefault("request", {"inputs": [str(path) for path in paths], "column": column})
    chosen = PredictOptions(**options)
    engine = open_engine(_opened(bundle, trust, key), chosen, artifact=artifact, provider=provider)
    return run(engine, open_sources(paths, engine.signature, column=column), Path(out), chosen)


def bench(
    *targets: str | Path,
    backends: Sequence[str] | None = None,
    artifacts: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    reference: str | None = None,
    input: str | None = None,
    labels_are: str | None = None,
    sizes: Mapping[str, int] | None = None,
    with_files: bool = True,
    quick: bool = False,
    trust: bool = False,
    key: str | Path | None = None,
    **options: Unpack[BenchKeywords],
) -> Report:
    """Measure how fast models are here, on every available backend.

    Args:
        targets: Bundles and ONNX files; two or more are compared.
        backends: Names, or `FILE.py:NAME`; by default every backend that can run here. Those that run files with code
            are left out where a bundle is not trusted.
        artifacts: Names of artifacts of lower precision to benchmark beside float32: `onnx-int8`. By default none is.
        providers: Execution providers; by default all that the installed onnxruntime has.
        threads: Threads of one inference; by default every core that this process may use.
        reference: What ratios are relative to: a backend, a target, or `TARGET:BACKEND`; by default PyTorch.
        input: Samples to time with; by default they are drawn at random.
        labels_are: What labels of these samples are, as for `predict`: `names` or `indices`.
        sizes: Name of a dynamic axis -> its size, of ONNX files that Onward did not write.
        with_files: Whether to time `predict` on image files, too.
        quick: Whether to give a first answer, for a small model in under half a minute: PyTorch and onnxruntime, two
            batch sizes, three process runs, no image files.
        trust, key: As for `load`.
        options: As `onward.benchmarking.spec.BenchOptions` has them: `batch_sizes`, `num_process_runs`, `num_rounds` …

    Raises:
        BundleError: A target is missing or changed, or the key did not sign it.
        TrustError: A backend that was named runs a file with code, and the bundle is not trusted.
        UsageError: Nothing would be timed, or an option is out of range.
    """
    from onward.benchmarking.bench import bench as run
    from onward.benchmarking.spec import QUICK_BACKENDS, BenchOptions, BenchSpec, Selection

    spec = BenchSpec(
        tuple(map(str, targets)),
        Selection(backends, providers, threads, QUICK_BACKENDS if quick else (), artifacts),
        reference,
        input,
        sizes or {},
        with_files and not quick,
        Trust.of(trust, key),
        labels_are,
    )
    return run(spec, BenchOptions.quick(**options) if quick else BenchOptions(**options))


def embed(
    bundle: Bundle | str | Path,
    target: str,
    out: str | Path,
    *,
    key: str | Path | None = None,
    **options: Unpack[EmbedKeywords],
) -> Embedding:
    """Write a small app around the model.

    Args:
        bundle: The bundle's folder, or an opened bundle.
        target: `python`, `node`, `web` or `triton`.
        out: The app's folder, new or empty.
        key: A public key that must have signed the bundle.
        options: As `onward.embedding.EmbedOptions` has them: `title`, `overwrite`, `browser_runtime`, `artifact`.

    Raises:
        BundleError: There is no ONNX artifact, a file was changed, or the key did not sign the bundle.
        OutputError: The folder cannot be written.
        UsageError: The target is unknown or does not serve such a model.
    """
    from onward.embedding import EmbedOptions
    from onward.embedding import embed as run

    return run(_opened(bundle, False, key), target, Path(out), EmbedOptions(**options))


def keygen(path: str | Path = "key.pem", *, algorithm: str = "p256", passphrase: str | None = None) -> KeyPair:
    """Make a pair of keys: the private one signs bundles, the public one checks them.

    Args:
        path: The private key's file. The public key is written beside it with the suffix `.pub`.
        algorithm: `p256` or `ed25519`. Signatures of `p256` can be checked by `model_signing`, too.
        passphrase: Encrypts the private key's file.

    Raises:
        OutputError: A file exists, or cannot be written.
        UsageError: The algorithm is unknown, or the passphrase is empty.
    """
    from onward.bundle.keys import generate_keys

    return generate_keys(path, algorithm=algorithm, passphrase=passphrase)


def sign(bundle: Bundle | str | Path, key: str | Path, *, passphrase: str | None = None) -> Signed:
    """Sign every file of a bundle: writes `model.sig` into it, in place of an earlier signature.

    Args:
        bundle: The bundle's folder, or an opened bundle.
        key: The private key's file.
        passphrase: Of that file, if it is encrypted.

    Raises:
        BundleError: There is no bundle, or a file is missing, changed, or not named by the manifest.
        OutputError: The signature cannot be written.
        UsageError: The key cannot be read.
    """
    from onward.bundle.signing import sign as run

    return run(_opened(bundle, False, None), Path(key), lambda: passphrase)


def inspect(path: str | Path) -> dict[str, Any]:
    """What a bundle or an ONNX file takes, gives and comes from, as plain data. Weights are not read.

    Raises:
        BundleError: The path is neither of them, or the bundle was changed.
    """
    from onward.bundle.inspection import inspect_bundle, inspect_onnx

    path = Path(path)
    return inspect_onnx(path) if path.is_file() else inspect_bundle(path)


def _opened(bundle: Bundle | str | Path, trust: bool, key: str | Path | None) -> Bundle:
    if isinstance(bundle, Bundle) and not trust and key is None:
        return bundle
    return Bundle.open(bundle.path if isinstance(bundle, Bundle) else bundle, Trust.of(trust, key))
