//! Processes beside the handles of a world: some work until they are killed, and some are asked in turn.

use std::time::Duration;

use super::History;
use super::client::Client;
use super::journal::{Line, records};
use super::operation::Operation;
use super::process::{Process, Servant, Spec, resumed};
use super::world::World;
use crate::streams::plan::Plan;
use crate::streams::stage::Stage;
use crate::support::Seeded;

/// Where the relay asks.
enum Place {
    Here(Stage),
    There(Servant),
}

impl World {
    /// Processes that work by themselves, of which some are killed, and some that are asked in turn.
    pub(super) fn processes(&self, history: &mut History) -> Result<Vec<Process>, String> {
        let count = 1 + self.random.below(2);
        let planned: Vec<(u64, Vec<Plan>, Seeded)> = (0..count)
            .map(|n| (n, self.plans(&format!("p{n}"), history), Seeded::from(self.random.next())))
            .collect();
        let (relayed, lived) = std::thread::scope(|scope| {
            let live = |(n, plans, random)| scope.spawn(move || self.lives(n, plans, &random));
            let lives: Vec<_> = planned.into_iter().map(live).collect();
            let relayed = self.relay();
            (relayed, lives.into_iter().map(|life| life.join().unwrap()).collect::<Vec<_>>())
        });
        history.killed += relayed?;
        let mut processes = Vec::new();
        for lived in lived {
            let (process, killed) = lived?;
            history.killed += killed;
            processes.push(process);
        }
        Ok(processes)
    }

    /// A process and those that follow it when it is killed; the last one waits for the end.
    fn lives(&self, n: u64, mut plans: Vec<Plan>, random: &Seeded) -> Result<(Process, u64), String> {
        let mut first: Vec<Operation> = Vec::new();
        let last = random.below(3);
        for life in 0..=last {
            let clients = (0..=random.below(2)).map(|client| {
                let name = format!("p{n}.{life}.{client}");
                (first.pop(), name, random.next(), 8 + random.below(12))
            });
            let spec = Spec {
                path: self.path.display().to_string(),
                clients: clients.collect(),
                streams: plans.clone(),
            };
            let mut process = Process::start(&spec);
            if life == last {
                process.hear("done", u64::MAX)?;
                return Ok((process, last));
            }
            process.hear("done", 1 + random.below(60))?;
            std::thread::sleep(Duration::from_micros(random.below(1_500)));
            let mut lines = process.kill()?;
            plans = resumed(&plans, &lines);
            first = self.try_again(&lines, &format!("p{n}.{life} again"), random);
            self.lines.lock().unwrap().append(&mut lines);
        }
        unreachable!("the last life returns");
    }

    /// Tries again what a process that died has left open, here or, as is returned, in the next one.
    fn try_again(&self, lines: &[Line], name: &str, random: &Seeded) -> Vec<Operation> {
        let mut left = Vec::new();
        let mut client = Client::new(name.to_owned(), random.next(), self.journal.clone());
        for record in records(lines).iter().filter(|record| record.completed.is_none()) {
            let Operation::Write(write) = &record.operation else { continue };
            let Some(again) = client.again(write) else { continue };
            match self.stages.first().filter(|_| random.below(3) > 0) {
                Some(stage) => drop(self.runtime.block_on(client.act(&stage.current(), again))),
                None => left.push(again),
            }
        }
        left
    }

    /// One client that asks one process after the other, and this one: what it was told by one, the
    /// next one must know. Returns how many were killed.
    fn relay(&self) -> Result<u64, String> {
        let mut places: Vec<Place> = self.stages.iter().cloned().map(Place::Here).collect();
        for _ in 0..2 - places.len().min(1) {
            places.push(Place::There(Servant::start(&self.path)?));
        }
        let mut client = self.client("relay".into());
        let mut killed = 0;
        for _ in 0..6 + self.random.below(8) {
            let at = self.random.below(places.len() as u64);
            let mut at = usize::try_from(at).unwrap();
            let mut operation = client.plan_write();
            let dies = self.random.below(12) == 0;
            if let (true, Place::There(_)) = (dies, &places[at]) {
                let place = std::mem::replace(&mut places[at], Place::There(Servant::start(&self.path)?));
                killed += 1;
                self.kill(place, &mut client, &operation);
                at = (at + 1) % places.len();
                let Operation::Write(write) = &operation else { unreachable!() };
                let Some(again) = client.again(write) else { continue };
                operation = again;
            }
            self.ask(&mut places[at], &mut client, &operation)?;
            for _ in 0..=self.random.below(3) {
                at = (at + 1) % places.len();
                let read = client.plan_read_of(&operation);
                self.ask(&mut places[at], &mut client, &read)?;
            }
        }
        Ok(killed)
    }

    fn ask(&self, place: &mut Place, client: &mut Client, operation: &Operation) -> Result<(), String> {
        match place {
            Place::Here(stage) => {
                self.runtime.block_on(client.act(&stage.current(), operation.clone()));
            }
            Place::There(servant) => {
                client.ask(operation);
                let (invoked, completed, answer) = servant.act(operation)?;
                client.hear(operation, invoked, completed, answer);
            }
        }
        Ok(())
    }

    fn kill(&self, place: Place, client: &mut Client, operation: &Operation) {
        let Place::There(servant) = place else { return };
        client.ask(operation);
        let after = Duration::from_micros(self.random.below(1_000));
        if let Some((invoked, completed, answer)) = servant.die_of(operation, after) {
            client.hear(operation, invoked, completed, answer);
        }
    }
}
