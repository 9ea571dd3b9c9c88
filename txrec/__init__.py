"""txrec: the library. Schema, text, features, model, training loop, index, metrics, bundle.

Nothing in this package imports Ray, FastAPI or Gradio: everything here runs in one process, so that it can be tested
fast and used on any machine that has torch. `pipelines` and `serve` build on it.
"""

__version__ = "0.1.0"
