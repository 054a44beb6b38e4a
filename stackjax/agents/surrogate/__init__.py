"""Models of quality and tokens, fitted to recorded turns and calibrated."""

from stackjax.agents.surrogate._accuracy import Accuracy, prediction_accuracy
from stackjax.agents.surrogate._calibration import Calibration, Drift, check_drift, fit_calibration
from stackjax.agents.surrogate._calibration_maps import (
    CalibratedSurrogate,
    CalibrationMap,
    LinearMap,
    LogOddsMap,
    MonotoneMap,
    fit_map,
)
from stackjax.agents.surrogate._diagnostics import (
    Reliability,
    SurrogateReport,
    reliability,
    surrogate_report,
)
from stackjax.agents.surrogate._fit import SurrogateHistory, fit_surrogate
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.agents.surrogate._probes import Probe, probe
from stackjax.agents.surrogate._shapes import FreeEnsemble, FreeModel, FreeSurface, Warp

__all__ = [
    "Accuracy",
    "CalibratedSurrogate",
    "Calibration",
    "CalibrationMap",
    "Drift",
    "FreeEnsemble",
    "FreeModel",
    "FreeSurface",
    "LinearMap",
    "LogOddsMap",
    "MonotoneMap",
    "Probe",
    "QualityModel",
    "Reliability",
    "Surrogate",
    "SurrogateHistory",
    "SurrogateReport",
    "TokenModel",
    "Warp",
    "check_drift",
    "fit_calibration",
    "fit_map",
    "fit_surrogate",
    "prediction_accuracy",
    "probe",
    "reliability",
    "surrogate_report",
]
