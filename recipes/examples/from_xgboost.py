"""A bundle from an XGBoost model: `python -m recipes.examples.from_xgboost --out DIR`.

`recipes/card_fraud/export.py` writes the same kind of graph without a converter, with columns computed inside it.
"""

from __future__ import annotations

import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from recipes.examples.bundle_making import Description, HeldOut, make_bundle, out_folder
from recipes.examples.login_records import CLASSES, INPUT, TASK, make_logins


def main() -> None:
    """The command line."""
    out = out_folder(__doc__)
    logins = make_logins()
    trees = xgboost.XGBClassifier(n_estimators=60, max_depth=3, learning_rate=0.1, random_state=7, n_jobs=1)
    trees.fit(logins.train, logins.train_label)
    model = convert_xgboost(
        trees,
        initial_types=[("record", FloatTensorType([None, logins.train.shape[1]]))],
        target_opset=15,
    ).SerializeToString()
    about = Description("login-xgboost", TASK, CLASSES, INPUT, trained_with="XGBoost")
    make_bundle(out, about, model, HeldOut(logins.held_out, logins.held_out_label))


if __name__ == "__main__":
    main()
