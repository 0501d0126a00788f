//! Cluster map and the pure rules over it: acting sets, voters, default profiles, what-ifs.
