"""No Dag: an import error of this file, in airflow, names every corpus or study file that no Dag could be made of."""

from __future__ import annotations

from palimpsest_airflow import definitions

definitions.check()
