# `make demo` and `make test` set up what they need; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.onward-ready
RUNTIME := .venv-runtime
RUNTIME_STAMP := $(RUNTIME)/.onward-ready
# Which builds of PyTorch: `pinned` as in requirements.txt, on Linux with CUDA; `cpu` without CUDA, by default on Linux
# where there is no NVIDIA card.
TORCH_BUILD ?= $(if $(CI)$(filter-out Linux,$(shell uname -s))$(wildcard /proc/driver/nvidia/version)$(shell command -v nvidia-smi),pinned,cpu)
SIZE_pinned := on Linux 3.4 GB to download and 6.5 GB on disk, most of it CUDA, elsewhere about a third
SIZE_cpu := less than 1 GB to download, about 2 GB on disk; PyTorch comes without CUDA
CPU_REQUIREMENTS := $(VENV)/requirements-cpu.txt
SYNC := $(BIN)/uv pip sync --quiet --python $(BIN)/python
SYNC_pinned := $(SYNC) --require-hashes requirements.txt
# PyTorch's own registry, which uv knows, has these builds.
SYNC_cpu := UV_HTTP_RETRIES=0 $(SYNC) --torch-backend cpu $(CPU_REQUIREMENTS) 2>$(VENV)/torch-cpu.log || { \
	echo "PyTorch without CUDA cannot be had here ($(VENV)/torch-cpu.log says why). Taking the pinned builds: $(SIZE_pinned)."; \
	$(SYNC_pinned); }
# The lowest versions are tried with the lowest Python that is here.
OLD_PYTHON ?= $(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v $(PYTHON))
LOWEST := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.onward-ready
LOWEST_RUNTIME := .venv-lowest-runtime
LOWEST_RUNTIME_STAMP := $(LOWEST_RUNTIME)/.onward-ready
# Of tests/runtime, what calls other packages; it takes a minute.
TELLING := backends/test_foreign_onnx.py backends/test_registry.py backends/test_providers.py bundle/test_bundle.py \
	bundle/test_golden.py bundle/test_signing.py bundle/test_verification.py cli embedding/test_python.py \
	images sinks sources test_classifier.py
# Files go to processes in the order of tests/conftest.py, the long ones first. A third process on two cores saves nothing
# and disturbs the tests that measure.
IN_PROCESSES := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-runtime test-lowest test-lowest-runtime check docs docs-build bench course zoo faults fuzz kills soak gpu gpu-pack format lock clean help

help:
	@echo "make demo    set up, then train → export → verify → predict → bench, into artifacts/demo"
	@echo "make test    set up, then all tests"
	@echo "make test-runtime   tests/runtime in an environment where PyTorch was never installed"
	@echo "make test-lowest   at the lowest versions of all packages: tests/runtime, and the line from training to predictions"
	@echo "make test-lowest-runtime   the same without PyTorch, and of tests/runtime what calls other packages"
	@echo "make check   ruff and mypy --strict"
	@echo "make docs    build the documentation and serve it on this machine"
	@echo "make bench   Onward beside its peers, at predicting, training, exporting and embedding"
	@echo "make course  the course's networks through the whole line, into docs/course.md"
	@echo "make zoo     torchvision's classifiers and 220 of timm's under the gate, an hour a call, into docs/zoo.md; goes on where it stopped"
	@echo "make fuzz    100,000 damaged files for each of 34 readers, an hour or two, into docs/fuzz.md; goes on where it stopped"
	@echo "make kills   300 runs of train, export and predict, killed at random moments, into docs/kills.md"
	@echo "make soak    kills, then fuzz"
	@echo "make gpu     everything that needs a graphics card, in under ten minutes; then the tables of docs/gpu.md"
	@echo "make gpu-pack   what a machine with a card but without a package registry lacks, in parts, into dist/gpu-pack"
	@echo "make lock    pin the dependencies anew in requirements.txt"

demo: $(STAMP)
	$(BIN)/onward demo

# uv leaves packages uncompiled, and images of containers often forbid Python to keep what it compiles: each of the
# tests' processes would then compile PyTorch anew.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PROCESSES)

# PyTorch makes the bundles first, which are then tested where neither PyTorch nor onnx is installed.
test-runtime: $(STAMP) $(RUNTIME_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.making
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUNTIME)/bin/python -m pytest $(IN_PROCESSES) tests/runtime

test-lowest: $(STAMP) $(LOWEST_STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest $(IN_PROCESSES) tests/runtime
	$(LOWEST)/bin/python -m benchmarks.companions.line

test-lowest-runtime: $(STAMP) $(LOWEST_RUNTIME_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.making
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(LOWEST_RUNTIME)/bin/python -m pytest $(IN_PROCESSES) \
		$(addprefix tests/runtime/,$(TELLING))

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: docs-build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# Strict: a broken link or anchor is an error. The site is in artifacts/site.
docs-build: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(STAMP)
	$(BIN)/python -m benchmarks.bench peers --folder artifacts/bench
	$(BIN)/python -m benchmarks.bench handmade --folder artifacts/bench
	$(BIN)/python -m benchmarks.predict --folder artifacts/bench
	$(BIN)/python -m benchmarks.train
	$(BIN)/python -m benchmarks.export
	$(BIN)/python -m benchmarks.interface
	$(BIN)/python -m benchmarks.embed --folder artifacts/bench

course: $(STAMP)
	$(BIN)/python -m benchmarks.course

zoo: $(STAMP)
	$(BIN)/python -m benchmarks.zoo

faults: $(STAMP)
	$(BIN)/python -m benchmarks.faults

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz --cases 3400000

kills: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.kills

soak: kills fuzz

# Without onnxruntime-gpu in the environment, the rows of onnxruntime say so; without a card, the CPU takes its place.
gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu --out artifacts/gpu
	if grep -q '"device": "cuda"' artifacts/gpu/results.json; then \
		$(BIN)/python -m benchmarks.gpu --page artifacts/gpu/results.json; fi

gpu-pack: $(STAMP)
	$(BIN)/python -m benchmarks.gpu.pack

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The one place that sets up: a virtual environment here, uv inside it, the pinned dependencies, and this checkout.
$(STAMP): requirements.txt pyproject.toml | $(CPU_REQUIREMENTS)
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Onward needs Python 3.11 or newer"'
	@echo "Setting up $(VENV), once, in a few minutes: $(or $(SIZE_$(TORCH_BUILD)),$(error TORCH_BUILD is '$(TORCH_BUILD)', expected cpu or pinned))."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(SYNC_$(TORCH_BUILD))
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The same versions without CUDA's packages. PyTorch's digests are those of other builds, so they are left out; uv checks
# all others.
$(CPU_REQUIREMENTS): requirements.txt
	@mkdir -p $(VENV)
	@awk '/^[^ #]/ { bare = /^torch(vision)?==/; dropped = /^(triton==|nvidia-|cuda-)/; if (bare) print $$1 } \
		!bare && !dropped' requirements.txt >$@

# The runtime floor at its pinned versions, and what its tests need. Of scikit-learn they read only the digits.
$(RUNTIME_STAMP): $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RUNTIME)
	$(BIN)/uv pip install --quiet --python $(RUNTIME) --constraints requirements.txt \
		gunicorn hatchling hypothesis jsonschema playwright pytest pytest-xdist tritonclient protobuf
	$(BIN)/uv pip install --quiet --python $(RUNTIME) --constraints requirements.txt --no-build-isolation \
		--editable '.[fast,parquet,openvino,signing]'
	$(BIN)/uv pip install --quiet --python $(RUNTIME) --constraints requirements.txt --no-deps scikit-learn
	! $(RUNTIME)/bin/python -c 'import torch' 2>/dev/null && ! $(RUNTIME)/bin/python -c 'import onnx' 2>/dev/null
	touch $@

# The lowest versions that pyproject.toml allows; what is needed beneath them is the newest that fits.
$(LOWEST_STAMP): requirements-lowest.txt $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(OLD_PYTHON) $(LOWEST)
	$(BIN)/uv pip sync --quiet --python $(LOWEST) --require-hashes requirements-lowest.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST) --no-deps --no-build-isolation --editable .
	touch $@

$(LOWEST_RUNTIME_STAMP): requirements-lowest.txt $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(OLD_PYTHON) $(LOWEST_RUNTIME)
	$(BIN)/uv pip install --quiet --python $(LOWEST_RUNTIME) --constraints requirements-lowest.txt --group test
	$(BIN)/uv pip install --quiet --python $(LOWEST_RUNTIME) --constraints requirements-lowest.txt --no-build-isolation \
		--editable '.[fast,parquet,openvino,signing]'
	$(BIN)/uv pip install --quiet --python $(LOWEST_RUNTIME) --constraints requirements-lowest.txt --no-deps scikit-learn
	touch $@

# Without --upgrade, uv would keep a lowest version that is in the file when pyproject.toml accepts a lower one.
lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --group test $(addprefix --extra ,fast parquet openvino signing export) \
		--resolution lowest-direct --upgrade --universal --python-version 3.10 \
		--generate-hashes --no-header --no-emit-index-url --quiet --output-file requirements-lowest.txt

clean:
	rm -rf $(VENV) $(RUNTIME) $(LOWEST) $(LOWEST_RUNTIME) artifacts/demo dist
