//! What goes wrong in a round: one thing after the other, until the round ends and all is mended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::world::{Random, World};

pub struct Fate {
    enough: watch::Sender<bool>,
    work: JoinHandle<()>,
}

impl Fate {
    pub fn begin(world: &Arc<World>, random: Random) -> Self {
        let (enough, told) = watch::channel(false);
        Fate {
            enough,
            work: tokio::spawn(strike(Arc::clone(world), random, told)),
        }
    }

    /// Waits until the last blow has fallen, and everything is whole again.
    pub async fn end(self) {
        self.enough.send_replace(true);
        self.work.await.unwrap();
    }
}

async fn strike(world: Arc<World>, mut random: Random, told: watch::Receiver<bool>) {
    while !*told.borrow() {
        let moment = Duration::from_millis(100 + random.below(900) as u64);
        let node = random.below(world.processes.len());
        let network = &world.nodes.networks[node];
        world.counts.faults.fetch_add(1, Ordering::SeqCst);
        let blow = random.below(8);
        world.blow(&format!("blow {blow} at node {node}, {moment:?}"));
        match blow {
            0 | 1 => restart(&world, node, random.percent(75)).await,
            2 => {
                world.nodes.redis.pause();
                tokio::time::sleep(moment * 2).await;
                world.nodes.redis.resume();
            }
            3 => {
                network.swallow_answers();
                tokio::time::sleep(moment).await;
                network.cut();
            }
            4 => {
                network.stall();
                tokio::time::sleep(moment).await;
                network.mend();
            }
            5 => {
                network.down();
                tokio::time::sleep(moment).await;
                network.mend();
            }
            6 => {
                network.delay(Duration::ZERO, moment);
                tokio::time::sleep(moment * 2).await;
                network.mend();
            }
            _ => tokio::time::sleep(moment).await,
        }
    }
    for network in &world.nodes.networks {
        network.mend();
    }
    world.blow("all is mended");
}

/// Ends a node, by force or by request, and starts it again a moment later.
async fn restart(world: &Arc<World>, node: usize, by_force: bool) {
    world.counts.kills.fetch_add(1, Ordering::SeqCst);
    *world.addresses[node].lock().unwrap() = None;
    let process = Arc::clone(&world.processes[node]);
    let address = tokio::task::spawn_blocking(move || {
        let mut process = process.lock().unwrap();
        if by_force {
            process.kill();
        } else {
            process.terminate();
        }
        process.start_again();
        process.addr
    })
    .await
    .unwrap();
    *world.addresses[node].lock().unwrap() = Some(address);
}
