"""The certificate: constants estimated, bounds computed, said plainly when vacuous."""

from stackjax.certificates._certificate import Certificate, Constant, Statement
from stackjax.certificates._certify import certify
from stackjax.certificates._deployed import Deployed
from stackjax.certificates._implementation_gap import response_error
from stackjax.certificates._real_turns import RealTurns
from stackjax.certificates._repair import horizon_repair_bound, repair_bound
from stackjax.certificates._transfer import Discrepancies, discrepancies
from stackjax.stats._mean import MeanInterval, draws_needed, mean_interval

__all__ = [
    "Certificate",
    "Constant",
    "Deployed",
    "Discrepancies",
    "MeanInterval",
    "RealTurns",
    "Statement",
    "certify",
    "discrepancies",
    "draws_needed",
    "horizon_repair_bound",
    "mean_interval",
    "repair_bound",
    "response_error",
]
