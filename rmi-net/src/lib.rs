//! Nodes, peers and connections of RMI.
