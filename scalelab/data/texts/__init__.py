"""The texts of the embedded corpus (`english.xz`, `manifest.json`) and the script that made them (`build.py`)."""
