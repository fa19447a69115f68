//! The Kubernetes API of Filstar: kinds, fields, rules.
