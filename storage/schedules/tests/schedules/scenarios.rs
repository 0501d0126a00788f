//! What clients do at the same time.

use super::{
    content::Class::{Large, Middle, Small, TwoPieces},
    drive::{Base, in_background, new, on_request},
    explore::{Schedules, explore},
};

/// All of them together take about half a minute on one core.
const SCHEDULES: Schedules = Schedules(1000);

#[test]
fn writers_and_readers_of_one_shard_agree_on_an_order() {
    explore("writers_and_readers", Base::empty(), SCHEDULES, |base| {
        base.play(
            on_request(),
            &[
                |client| {
                    client.put(0, new(Small, 1));
                    client.put(0, new(TwoPieces, 2));
                    client.delete(&[0]);
                },
                |client| {
                    client.put(0, new(Large, 3));
                    client.read(0);
                    client.put(0, new(Small, 4));
                },
                |client| {
                    client.read(0);
                    client.delete(&[0, 1]);
                    client.put(1, new(TwoPieces, 5));
                    client.list();
                    client.stat(0);
                },
            ],
        );
    });
}

#[test]
fn compaction_keeps_what_is_replaced_deleted_and_read_beside_it() {
    explore("compaction", Base::aged(), SCHEDULES, |base| {
        base.play(
            on_request(),
            &[
                |client| client.reclaim(),
                |client| {
                    client.delete(&[4, 0]);
                    client.put(1, new(Large, 1));
                    client.delete(&[5]);
                    client.put(5, new(Small, 2));
                },
                |client| {
                    client.read(2);
                    client.read(4);
                    client.read(0);
                    client.list();
                },
            ],
        );
    });
}

#[test]
fn a_segment_used_again_never_shows_in_a_read_of_what_it_held() {
    explore("a_segment_used_again", Base::aged(), SCHEDULES, |base| {
        base.play(
            on_request(),
            &[
                |client| {
                    client.reclaim();
                    (1..4).for_each(|number| client.put(6, new(TwoPieces, number)));
                    (4..9).for_each(|number| client.put(7, new(Middle, number)));
                },
                |client| {
                    client.read(0);
                    client.read(4);
                    client.read(1);
                    client.read(5);
                },
                |client| {
                    client.scrub();
                    client.stat(2);
                },
            ],
        );
    });
}

#[test]
fn a_checkpoint_beside_writes_loses_none() {
    explore("a_checkpoint_beside_writes", Base::aged(), SCHEDULES, |base| {
        base.play(
            on_request(),
            &[
                |client| {
                    client.checkpoint();
                    client.reclaim();
                    client.checkpoint();
                },
                |client| {
                    client.put(0, new(Small, 1));
                    client.delete(&[2, 10]);
                    client.put(6, new(Large, 2));
                },
                |client| {
                    client.give_up(7, new(TwoPieces, 3));
                    client.put(10, new(Small, 4));
                    client.delete(&[0]);
                    client.abandon(8, new(Large, 5));
                },
            ],
        );
    });
}

#[test]
fn a_drive_that_keeps_house_by_itself_serves_all_the_same() {
    explore("a_drive_that_keeps_house", Base::aged(), SCHEDULES, |base| {
        base.play(
            in_background(),
            &[
                |client| {
                    client.put(0, new(Small, 1));
                    client.put(4, new(TwoPieces, 2));
                    client.delete(&[5, 1]);
                    client.put(1, new(Small, 3));
                },
                |client| {
                    client.read(4);
                    client.put(4, new(Large, 4));
                    client.read(0);
                    client.read(2);
                },
            ],
        );
    });
}

#[test]
fn closing_beside_work_keeps_what_was_answered_and_answers_the_rest() {
    explore("closing_beside_work", Base::aged(), SCHEDULES, |base| {
        base.play_and_close(
            in_background(),
            &[
                |client| {
                    client.put(0, new(Small, 1));
                    client.put(0, new(TwoPieces, 2));
                },
                |client| {
                    client.read(4);
                    client.delete(&[4, 2]);
                    client.reclaim();
                },
            ],
        );
    });
}
