//! Clock, randomness, tasks, disks, sockets and memory budgets: the only door to the outside world.
