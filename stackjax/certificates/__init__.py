"""The certificate: constants estimated, bounds computed, said plainly when vacuous."""

from stackjax._arrays.verdict import Verdict
from stackjax.certificates._certificate import Certificate, Constant, Statement
from stackjax.certificates._certify import certify
from stackjax.certificates._deployed import Deployed
from stackjax.certificates._implementation_gap import response_error
from stackjax.certificates._real_turns import RealTurns
from stackjax.certificates._repair import horizon_repair_bound
from stackjax.certificates._transfer import Discrepancies, discrepancies

__all__ = [
    "Certificate",
    "Constant",
    "Deployed",
    "Discrepancies",
    "RealTurns",
    "Statement",
    "Verdict",
    "certify",
    "discrepancies",
    "horizon_repair_bound",
    "response_error",
]
