//! Who the parents of a node are: six of the same layer (DRG), eight of the layer before (expander).
