//! Functions and data of Prometheus' and Alertmanager's templates.
