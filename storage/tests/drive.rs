//! The drive store from outside, against a model.

#[cfg(test)]
mod drive {
    mod damage;
    mod faults;
    mod fixture;
    mod log_damage;
    mod model;
    mod opening;
    mod recovering;
    mod scrubbing;
    mod sim_drive;
    mod space;
    mod starved_disk;
    mod writing;
}
