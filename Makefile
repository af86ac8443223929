# Two commands: `make demo` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON_BIN := .venv/bin/python
CLI := .venv/bin/autoalign-cli
DEMO_MODEL := smollm2-135m-instruct
TYPED := autoalign ray_jobs scripts benchmarks
# Tests start hundreds of processes; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-eval model demo demo-align serve test chaos check lint format bench bench-train bench-serve bench-sample bench-scale bench-align clean fuzz

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv from the lock file (at once when nothing changed)
	@scripts/setup.sh

setup-eval: ## make .venv-eval, OpenCompass's own environment
	@scripts/setup.sh eval

model: setup ## make models/smollm2-135m-instruct, the demo model
	@$(CLI) models fetch $(DEMO_MODEL)

demo: model ## fine-tune the demo model on a persona, and compare its answers before and after
	@$(PYTHON_BIN) examples/persona/run.py

demo-align: model ## align the demo model in two rounds: short answers by RLCD, a table and a picture
	@$(CLI) align --config configs/align/rlcd_sys.yaml --rounds 2 --output_dir outputs/demo-align
	@$(CLI) align status outputs/demo-align
	@echo "picture: outputs/demo-align/align.png"

serve: model ## inference, jobs and the console on the demo model, port 8000 (SERVE_ARGS="--port 9000")
	@$(CLI) serve platform --checkpoint_path models/$(DEMO_MODEL) --model_roots models $(SERVE_ARGS)

test: model ## every test (PYTEST_ARGS="-k chat" for some)
	@$(PYTHON_BIN) -m pytest $(PYTEST_ARGS)

chaos: model ## sampling under 20 seeded faults, the endpoint overloaded, platforms and alignments killed, the whole cycle, every recipe (an hour and a half)
	@$(PYTHON_BIN) -m pytest -m chaos tests/chaos $(PYTEST_ARGS)

check: lint ## lint, types, architecture and the fast tests
	@$(PYTHON_BIN) -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m "not slow and not gpu" tests/architecture tests/unit $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m mypy $(TYPED)

format: setup ## rewrite the sources with ruff
	@$(PYTHON_BIN) -m ruff check --fix .
	@$(PYTHON_BIN) -m ruff format .

fuzz: setup ## the HTTP API's document against 2,000 made-up requests for each operation
	@FUZZ_EXAMPLES=2000 $(PYTHON_BIN) -m pytest -q --timeout 7200 tests/unit/test_openapi.py $(PYTEST_ARGS)

bench: bench-train bench-serve bench-sample bench-scale ## every benchmark

bench-train: model ## training next to TRL: tables into docs/benchmarks.md (BENCH_ARGS="--quick" to try it)
	@$(PYTHON_BIN) -m benchmarks.train $(BENCH_ARGS)

bench-sample: model ## sampling next to vLLM alone and ray.data.llm: a table into docs/benchmarks.md
	@$(PYTHON_BIN) -m benchmarks.sample $(SAMPLE_ARGS)

bench-align: model ## what automatic alignment changes on the demo model, three seeds: a table into docs/benchmarks.md
	@$(PYTHON_BIN) -m benchmarks.align $(ALIGN_ARGS)

bench-scale: setup ## the sampling pipeline with a million rows and 8 replicas: tables into docs/scale.md
	@$(PYTHON_BIN) -m benchmarks.scale $(SCALE_ARGS)

bench-serve: model ## serving next to vLLM's own server and ray.serve.llm: table into docs/benchmarks.md
	@$(PYTHON_BIN) -m benchmarks.serve $(BENCH_ARGS)

clean: ## remove caches and build outputs; environments, models and outputs stay
	@rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find $(TYPED) tests -name __pycache__ -type d -prune -exec rm -rf {} +
