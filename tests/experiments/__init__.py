# The registry of studies first: it and what studies are made of import one another.
import experiments.studies  # noqa: F401
