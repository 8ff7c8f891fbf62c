"""A bundle from a scikit-learn model: `python -m recipes.examples.from_scikit_learn --out DIR`.

skl2onnx converts pipelines, linear models, forests, gradient boosting, support vector machines and more; it does not
convert HistGradientBoostingClassifier.
"""

from __future__ import annotations

from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from recipes.examples.bundle_making import Description, HeldOut, make_bundle, out_folder
from recipes.examples.login_records import CLASSES, INPUT, TASK, make_logins


def main() -> None:
    """The command line."""
    out = out_folder(__doc__)
    logins = make_logins()
    pipeline = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=60, max_depth=2, random_state=7))
    pipeline.fit(logins.train, logins.train_label)
    # Without `zipmap: False` the probabilities come as a sequence of maps, which is not a tensor.
    model = to_onnx(
        pipeline,
        logins.train[:1],
        options={"zipmap": False},
        target_opset={"": 17, "ai.onnx.ml": 3},
    ).SerializeToString()
    about = Description("login-scikit-learn", TASK, CLASSES, INPUT, trained_with="scikit-learn")
    make_bundle(out, about, model, HeldOut(logins.held_out, logins.held_out_label))


if __name__ == "__main__":
    main()
