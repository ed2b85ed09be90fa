# Thin: each target calls what README.md shows.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: quickstart quickstart-detr quickstart-segmentation test cases peers notebooks lint clean

quickstart: .venv/installed
	$(BIN)/python -m vit_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

quickstart-detr: .venv/installed
	$(BIN)/python -m vit_jax.main --config=configs/quickstart_detr.py --workdir=runs/quickstart-detr

quickstart-segmentation: .venv/installed
	$(BIN)/python -m vit_jax.main --config=configs/quickstart_segmentation.py \
		--workdir=runs/quickstart-segmentation

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Inputs made after public bug reports, which lie beside the project; one of them only waits, 5 minutes.
# Not run: a_detector_given_to_the_classifier wants vit_jax.predict to refuse a detector and to point at
# another command; there is no other any more, vit_jax.predict detects.
SHARED ?= $(or $(VIT_JAX_SHARED),../shared)
cases: .venv/installed
	@if [ ! -d $(SHARED)/cases ]; then echo "no cases in $(SHARED)/cases; set VIT_JAX_SHARED"; exit 0; fi; \
	run="$(BIN)/python $(SHARED)/cases/run.py . --python=$(CURDIR)/$(BIN)/python"; \
	if [ -n "$(NAMES)" ]; then $$run $(NAMES); exit; fi; \
	$$run one_of_two_processes & waits=$$!; \
	$$run $$(ls $(SHARED)/cases | grep -v -e '\.' -e one_of_two_processes -e __pycache__ \
		-e a_detector_given_to_the_classifier) && wait $$waits

peers: .venv/installed
	$(BIN)/pip install --quiet -e '.[peers,prepare]' -c constraints.txt
	$(BIN)/python -m pytest -n 2 -k 'peer or transformers or tfds' tests/weights tests/detr/weights \
		tests/data/test_tfds.py

notebooks: .venv/installed
	$(BIN)/pip install --quiet -e '.[notebooks]' -c constraints.txt
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

lint: .venv/installed
	$(BIN)/pip install --quiet -e '.[dev]' -c constraints.txt
	$(BIN)/ruff check .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[test]' -c constraints.txt
	touch $@

clean:
	rm -rf .venv runs
