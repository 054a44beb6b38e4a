"""Methods on sets with constraints: interior point, active sets, Newton on the KKT conditions."""
