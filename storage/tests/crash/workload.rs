//! What clients of a random run do: several operations at once, of all kinds, on few shards.

use super::{
    client::Client,
    content::{CLASSES, Class, Dice, Round},
};
use futures_util::future::join_all;

/// Shards of a run: few, so that they are replaced and deleted often.
pub(crate) const NUMBERS: u8 = 12;

#[derive(Clone, Debug)]
enum Call {
    Put { number: u8, round: Round },
    GiveUp { number: u8, round: Round },
    AbandonCommit { number: u8, round: Round },
    Delete { numbers: Vec<u8>, round: Round },
    Read { number: u8 },
    Checkpoint,
    Reclaim,
}

#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) dice: Dice,
    next: u64,
}

impl Workload {
    /// Rounds count from `first` on: two lives of one drive must not write the same.
    pub(crate) fn new(seed: u64, first: u64) -> Self {
        Self { dice: Dice::new(seed), next: first }
    }

    /// Up to `callers` operations at once. Returns how many.
    pub(crate) async fn wave(&mut self, client: &Client<'_>, callers: u64) -> Result<u64, String> {
        let count = 1 + self.dice.below(callers);
        let calls: Vec<Call> = (0..count).map(|_| self.call()).collect();
        let results = join_all(calls.into_iter().map(|call| perform(client, call))).await;
        results.into_iter().collect::<Result<(), String>>()?;
        Ok(count)
    }

    fn call(&mut self) -> Call {
        let number = self.number();
        match self.dice.below(100) {
            0..50 => Call::Put { number, round: self.round() },
            50..57 => Call::GiveUp { number, round: self.round() },
            57..60 => Call::AbandonCommit { number, round: self.round() },
            60..72 => Call::Delete { numbers: vec![number], round: self.round() },
            72..80 => Call::Read { number },
            80..88 => {
                let mut numbers: Vec<u8> = (0..self.dice.below(4)).map(|_| self.number()).collect();
                numbers.sort_unstable();
                numbers.dedup();
                Call::Delete { numbers, round: self.round() }
            }
            88..94 => Call::Checkpoint,
            _ => Call::Reclaim,
        }
    }

    fn number(&mut self) -> u8 {
        u8::try_from(self.dice.below(u64::from(NUMBERS))).expect("numbers are few")
    }

    fn round(&mut self) -> Round {
        self.next += 1;
        // Large shards are as frequent as small ones only where they are few bytes more.
        let class = match self.dice.below(12) {
            0..9 => CLASSES[usize::try_from(self.dice.below(9)).expect("nine classes")],
            9 => Class::Odd,
            10 => Class::Tiny,
            _ => Class::Large,
        };
        Round::new(self.next, class)
    }
}

async fn perform(client: &Client<'_>, call: Call) -> Result<(), String> {
    match call {
        Call::Put { number, round } => client.put(number, round).await,
        Call::GiveUp { number, round } => client.give_up(number, round).await,
        Call::AbandonCommit { number, round } => client.abandon_commit(number, round).await,
        Call::Delete { numbers, round } => client.delete(&numbers, round).await,
        Call::Read { number } => client.read_beside(number).await,
        Call::Checkpoint => client.checkpoint().await,
        Call::Reclaim => client.reclaim().await,
    }
}
