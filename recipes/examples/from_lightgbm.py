"""A bundle from a LightGBM model: `python -m recipes.examples.from_lightgbm --out DIR`."""

from __future__ import annotations

import lightgbm
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from recipes.examples.bundle_making import Description, HeldOut, make_bundle, out_folder
from recipes.examples.login_records import CLASSES, INPUT, TASK, make_logins


def main() -> None:
    """The command line."""
    out = out_folder(__doc__)
    logins = make_logins()
    settings = {
        "objective": "binary",
        "max_depth": 3,
        "seed": 7,
        "deterministic": True,
        "num_threads": 1,
        "verbose": -1,
    }
    # LightGBM compares in double precision and ONNX in single; single-precision training data keep the splits the same.
    booster = lightgbm.train(settings, lightgbm.Dataset(logins.train, logins.train_label), num_boost_round=60)
    model = convert_lightgbm(
        booster,
        initial_types=[("record", FloatTensorType([None, logins.train.shape[1]]))],
        target_opset=15,
        zipmap=False,
    ).SerializeToString()
    about = Description("login-lightgbm", TASK, CLASSES, INPUT, trained_with="LightGBM")
    make_bundle(out, about, model, HeldOut(logins.held_out, logins.held_out_label))


if __name__ == "__main__":
    main()
