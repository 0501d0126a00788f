//! The drive store from outside: against a model, damaged files, failing devices and power cuts.

#[cfg(test)]
mod drive {
    mod crash;
    mod damage;
    mod disk_contract;
    mod faults;
    mod faulty_disk;
    mod fixture;
    mod model;
    mod opening;
    mod simulated_disk;
    mod writing;
}
