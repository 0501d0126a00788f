//! The drive store from outside, against a model.

#[cfg(test)]
mod drive {
    mod faults;
    mod fixture;
    mod model;
    mod opening;
    mod recovering;
    mod sim_drive;
    mod starved_disk;
    mod writing;
}
