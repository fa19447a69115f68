//! Labels of the layers of one or several sectors in lock step.
