//! How many renewals a second the embedded store makes durable, beside plain append + fdatasync on the same disk.
//!
//!     cargo run --release --locked --example bench-renewals -- [--live 1000000] [--at-once 64] [--rounds 7]
//!         [--seconds 1] [--folder FOLDER]
//!
//! The renewals are the real ones: `Sessions::renew` with the built-in accounts asked, tokens signed, and the compare-and-set
//! on disk before the answer; once alone, and once together with the acknowledgement that the browser's next request brings,
//! which verifies the new token and is a second write. Beside them the store alone: read a session, replace it. `--at-once`
//! browsers do so at the same time, each again and again with other sessions, beside `--live` sessions that do nothing. The
//! other side appends one session's record to a file and calls fdatasync, one at a time. All take turns on the same disk;
//! the ratio is formed round by round and given as median [least..most]. It also tells what opening that store takes, and how
//! long a renewal waits, alone and while a hundred thousand ended sessions are swept out.
//!
//! With `--fill FOLDER` it only makes `--live` sessions and `--revocations` revocations in the store of that folder, for
//! benches/many-sessions.
//!
//! fdatasync of one writer waits for nothing but the disk, renewals for the processors as well: other work on the machine
//! moves the ratio a great deal.
//!
//! The folder must be on the disk that is to be measured, not in memory (default: below `target`); what is made in it is
//! removed. Exits 1 on malfunction only, never because of a number.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it measures the real time, and prints what it finds"
)]

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vestibule::auth::decision::RefreshFinding;
use vestibule::auth::refresh_token::MasterKeys;
use vestibule::auth::rotation::{Lineage, SessionRecord, Windows};
use vestibule::auth::{Client, ClientAddr, Generation, Identity, SessionId};
use vestibule::clock::{Clock, Timestamp};
use vestibule::login::local::{self, Local, PROVIDER};
use vestibule::session::{IdentitySource, Renewal, Sessions, Settings};
use vestibule::store::{Account, Embedded, Replaced, RevocationRecord, RevocationTarget, Store};
use vestibule::units::Secret;

/// As in the gateway.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Sessions of each browser, so that a renewal is acknowledged before its session's next turn.
const EACH: usize = 32;
/// Sessions that end at the same time, for the sweep.
const ENDED: usize = 100_000;
/// The golden ratio of 2^128, odd.
const SPREADER: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
const DAY: Duration = Duration::from_secs(86_400);
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

struct Options {
    live: usize,
    at_once: usize,
    rounds: usize,
    seconds: f64,
    folder: PathBuf,
    fill: Option<PathBuf>,
    revocations: usize,
}

fn main() -> Outcome<()> {
    let options = options()?;
    if let Some(folder) = &options.fill {
        return tokio::runtime::Runtime::new()?.block_on(fill_only(&options, folder));
    }
    std::fs::create_dir_all(&options.folder)?;
    let scratch = tempfile::Builder::new()
        .prefix("bench-renewals-")
        .tempdir_in(&options.folder)?;
    // As many threads as the gateway's control runtime has.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&options, scratch.path()))
}

fn options() -> Outcome<Options> {
    let mut options = Options {
        live: 1_000_000,
        at_once: 64,
        rounds: 7,
        seconds: 1.0,
        folder: PathBuf::from("target"),
        fill: None,
        revocations: 0,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or("every option has a value")?;
        match word.as_str() {
            "--live" => options.live = value.parse()?,
            "--at-once" => options.at_once = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--folder" => options.folder = value.into(),
            "--fill" => options.fill = Some(value.into()),
            "--revocations" => options.revocations = value.parse()?,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    if options.rounds == 0 || options.at_once == 0 || options.seconds < 0.1 {
        return Err("at least one round of 0.1 seconds with one browser".into());
    }
    Ok(options)
}

async fn run(options: &Options, scratch: &Path) -> Outcome<()> {
    let folder = scratch.join("data");
    let master = Secret::new([7; 32]);
    let store = Arc::new(Embedded::open(&folder, &master, &[])?);
    let started = Instant::now();
    let now = Clock::System.now();
    fill(&store, options.live, now, now.plus(DAY * 7)).await?;
    eprintln!(
        "{} sessions made in {:.1} s",
        options.live,
        started.elapsed().as_secs_f64()
    );
    drop(store);

    let before = resident()?;
    let started = Instant::now();
    let store = Arc::new(Embedded::open(&folder, &master, &[])?);
    let opened = started.elapsed();
    let (after, peak) = (resident()?, peak()?);
    let file = std::fs::metadata(store.path())?.len();

    let sessions = engine(Arc::clone(&store), &master).await?;
    let mut browsers = sign_in(&sessions, &*store, options.at_once).await?;

    let mut appended = Vec::new();
    let mut works = [
        Measured::of(Work::Swap, "compare-and-set in the store"),
        Measured::of(Work::Renew, "renewals"),
        Measured::of(
            Work::RenewAndUse,
            "renewals, each acknowledged by a next request",
        ),
    ];
    for round in 0..options.rounds {
        // Every other round runs backwards, so that nobody always follows the same neighbour.
        if round % 2 == 0 {
            appended.push(append(scratch, options.seconds)?);
        }
        works.reverse();
        for work in &mut works {
            let measured = measure(&sessions, &store, &mut browsers, work, options.seconds).await?;
            work.rates.push(measured);
        }
        if round % 2 == 1 {
            appended.push(append(scratch, options.seconds)?);
        }
        eprintln!("round {}/{}", round + 1, options.rounds);
    }
    works.sort_by_key(|work| work.work as u8);

    let past = now.minus(DAY * 8);
    fill(&store, ENDED, past, past.plus(DAY * 7)).await?;
    let mut swept_waits = Vec::new();
    let swept = swept_meanwhile(&sessions, &store, &mut browsers, &mut swept_waits).await?;

    println!(
        "\nDurable renewals, {} at once, beside {} live sessions; {} rounds of {} s, median [least..most]\n",
        options.at_once, options.live, options.rounds, options.seconds
    );
    println!("| | per second | CPU us each | ratio to append + fdatasync | must | aim |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| append + fdatasync, one at a time | {} | | 1 | | |",
        spread(&appended, 0)
    );
    for work in &works {
        let rates: Vec<f64> = work.rates.iter().map(|(rate, _)| *rate).collect();
        let micros: Vec<f64> = work.rates.iter().map(|(_, micros)| *micros).collect();
        let ratios: Vec<f64> = rates.iter().zip(&appended).map(|(a, b)| a / b).collect();
        println!(
            "| {} | {} | {} | {} | >= 4 | >= 12 |",
            work.name,
            spread(&rates, 0),
            spread(&micros, 0),
            spread(&ratios, 1)
        );
    }
    println!("\n| | |");
    println!("|---|---|");
    for work in &mut works {
        println!(
            "| {}: waiting | {} |",
            work.name,
            percentiles(&mut work.waits)
        );
    }
    println!(
        "| … while {ENDED} ended sessions are swept, which takes {:.1} s | {} |",
        swept.as_secs_f64(),
        percentiles(&mut swept_waits)
    );
    println!(
        "| opening the file of {} MiB with every page checked | {:.1} s, memory {} -> {} MiB, at most {} MiB |",
        file >> 20,
        opened.as_secs_f64(),
        before >> 20,
        after >> 20,
        peak >> 20
    );
    Ok(())
}

async fn fill_only(options: &Options, folder: &Path) -> Outcome<()> {
    let master = vestibule::store::master_key(folder)?;
    let store = Arc::new(Embedded::open(folder, &master, &[])?);
    let now = Clock::System.now();
    fill(&store, options.live, now, now.plus(DAY * 7)).await?;
    // Spread over all bits, as random ids are, whose first bytes the gateway takes for their hash.
    let spread = |number: u128| number.wrapping_mul(SPREADER).to_be_bytes();
    let ended: Vec<_> = (1..=options.revocations as u128)
        .map(|number| RevocationRecord {
            target: RevocationTarget::Session(SessionId::from_bytes(spread(number))),
            at: now,
            until: now.plus(DAY),
        })
        .collect();
    for group in ended.chunks(1024) {
        let puts = group
            .iter()
            .map(|revocation| store.put_revocation(revocation));
        futures_util::future::try_join_all(puts).await?;
    }
    Ok(())
}

fn identity(user: &str, now: Timestamp) -> Identity {
    Identity {
        user: user.to_owned(),
        email: Some(format!("{user}@example.com")),
        name: Some("Some Body".to_owned()),
        preferred_username: None,
        groups: vec!["staff".to_owned(), "writers".to_owned()],
        provider: PROVIDER.to_owned(),
        auth_time: now,
        amr: vec!["pwd".to_owned()],
    }
}

fn client() -> Client {
    Client {
        user_agent: BROWSER.to_owned(),
        addr: ClientAddr([192, 0, 2, 7].into()),
    }
}

fn record(number: usize, now: Timestamp, ends: Timestamp) -> SessionRecord {
    let mut id = [0; 16];
    let (high, low) = id.split_at_mut(8);
    // Ascending, so that the file fills quickly; spread over the whole range, so that a random id falls among them.
    high.copy_from_slice(
        &(number as u64)
            .wrapping_mul(u64::MAX / 2_000_000)
            .to_be_bytes(),
    );
    low.copy_from_slice(&now.as_millis().to_be_bytes());
    SessionRecord {
        id: SessionId::from_bytes(id),
        identity: identity(&format!("user-{:06}", number % 250_000), now),
        lineage: Lineage {
            newest: Generation(3),
            parent: Some(Generation(2)),
            issued_at: now,
            acknowledged_at: Some(now),
            client: client(),
        },
        created_at: now,
        last_seen_at: now,
        idle_expires_at: ends.plus(Duration::from_millis(number as u64 / 16)),
        absolute_expires_at: ends.plus(DAY * 30),
        revoked_at: None,
        provider: None,
    }
}

/// Through the store's own door, many at once.
async fn fill(store: &Arc<Embedded>, count: usize, now: Timestamp, ends: Timestamp) -> Outcome<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1024 {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                store.create_session(&record(number, now, ends)).await?;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task?.map_err(|error: vestibule::store::StoreError| error)?;
    }
    Ok(())
}

async fn engine(store: Arc<Embedded>, master: &Secret) -> Outcome<Arc<Sessions>> {
    let settings = Settings {
        origin: "https://app.example.com".to_owned(),
        access_ttl: Duration::from_secs(300),
        absolute_ttl: DAY * 90,
        windows: Windows {
            redelivery: Duration::from_secs(30),
            replay_grace: Duration::from_secs(30),
            idle_ttl: DAY * 14,
        },
        cache_entries: 100_000,
    };
    let accounts = Local::new(
        Arc::clone(&store) as Arc<dyn Store>,
        local::Settings::default(),
        Clock::System,
    );
    Ok(Sessions::open(
        settings,
        store,
        MasterKeys::new(master, &[]),
        Arc::new(accounts) as Arc<dyn IdentitySource>,
        Clock::System,
        Arc::new(()),
        tokio::runtime::Handle::current(),
    )
    .await?)
}

/// One browser: its sessions' newest refresh tokens, and whose turn it is.
struct Browser {
    tokens: Vec<String>,
    turn: usize,
}

async fn sign_in(
    sessions: &Arc<Sessions>,
    store: &dyn Store,
    count: usize,
) -> Outcome<Vec<Browser>> {
    let now = Clock::System.now();
    let mut browsers = Vec::new();
    for number in 0..count {
        let name = format!("person-{number}");
        store
            .create_account(&Account {
                name: name.clone(),
                email: Some(format!("{name}@example.com")),
                display_name: Some("Some Body".to_owned()),
                groups: vec!["staff".to_owned(), "writers".to_owned()],
                password_hash: "$argon2id$".to_owned(),
                blocked: false,
                created_at: now,
                password_changed_at: now,
            })
            .await?;
        let begun = (0..EACH).map(|_| async {
            let pair = sessions.begin(identity(&name, now), &client(), now).await?;
            Ok::<_, vestibule::session::BeginError>(pair.refresh.clone())
        });
        let tokens = futures_util::future::try_join_all(begun).await?;
        browsers.push(Browser { tokens, turn: 0 });
    }
    Ok(browsers)
}

/// What browsers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Swap,
    Renew,
    RenewAndUse,
}

struct Measured {
    work: Work,
    name: &'static str,
    /// Per second, and CPU microseconds each.
    rates: Vec<(f64, f64)>,
    waits: Vec<Duration>,
}

impl Measured {
    fn of(work: Work, name: &'static str) -> Self {
        Measured {
            work,
            name,
            rates: Vec::new(),
            waits: Vec::new(),
        }
    }
}

/// Lets all browsers work for a while; how many times a second, and CPU microseconds each.
async fn measure(
    sessions: &Arc<Sessions>,
    store: &Arc<Embedded>,
    browsers: &mut Vec<Browser>,
    measured: &mut Measured,
    seconds: f64,
) -> Outcome<(f64, f64)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (started, cpu) = (Instant::now(), cpu_micros()?);
    let tasks = start(sessions, store, browsers, measured.work, &stop);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let count = finish(tasks, browsers, &mut measured.waits).await? as f64;
    let rate = count / started.elapsed().as_secs_f64();
    sessions.settled().await;
    Ok((rate, (cpu_micros()? - cpu) / count))
}

/// CPU time of this process so far.
fn cpu_micros() -> Outcome<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().ok_or("no time")?.parse::<u64>()?;
    }
    Ok(nanos as f64 / 1e3)
}

type Turns = tokio::task::JoinSet<Outcome<(Browser, Vec<Duration>)>>;

fn start(
    sessions: &Arc<Sessions>,
    store: &Arc<Embedded>,
    browsers: &mut Vec<Browser>,
    work: Work,
    stop: &Arc<AtomicBool>,
) -> Turns {
    let mut tasks = Turns::new();
    for mut browser in browsers.drain(..) {
        let (sessions, stop) = (Arc::clone(sessions), Arc::clone(stop));
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut waits = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                browser.turn = (browser.turn + 1) % EACH;
                let token = browser.tokens.get_mut(browser.turn).ok_or("no such turn")?;
                let started = Instant::now();
                match work {
                    Work::Swap => swap(&sessions, &*store, token).await?,
                    Work::Renew => *token = renew(&sessions, token, false).await?,
                    Work::RenewAndUse => *token = renew(&sessions, token, true).await?,
                }
                waits.push(started.elapsed());
            }
            Ok((browser, waits))
        });
    }
    tasks
}

/// The store's part of a renewal alone. The generation stays, so that the browser's token does too.
async fn swap(sessions: &Sessions, store: &dyn Store, token: &str) -> Outcome<()> {
    let RefreshFinding::Sealed(claims) = sessions.open_refresh(token.as_bytes()) else {
        return Err("not a token of this gateway".into());
    };
    let stored = store.session(&claims.session).await?.ok_or("it is gone")?;
    let mut record = stored.record;
    record.last_seen_at = Clock::System.now();
    match store.replace_session(&record, stored.revision).await? {
        Replaced::Committed(_) => Ok(()),
        // An acknowledgement of the round before.
        Replaced::Conflict => Ok(()),
        Replaced::Missing => Err("it is gone".into()),
    }
}

async fn renew(sessions: &Arc<Sessions>, token: &str, used: bool) -> Outcome<String> {
    let RefreshFinding::Sealed(claims) = sessions.open_refresh(token.as_bytes()) else {
        return Err("not a token of this gateway".into());
    };
    let now = Clock::System.now();
    match sessions.renew(claims, &client(), now).await {
        Renewal::Issued(pair, _) if pair.generation > claims.generation => {
            if used {
                sessions.check_access(pair.access.as_bytes(), Clock::System.now());
            }
            Ok(pair.refresh.clone())
        }
        Renewal::Issued(..) | Renewal::Served(_) => Err("not a new generation".into()),
        Renewal::Refused { .. } => Err("refused".into()),
        Renewal::Unavailable(_) | Renewal::ProviderSilent { .. } => {
            Err("there was no answer in time".into())
        }
    }
}

async fn finish(
    mut tasks: Turns,
    browsers: &mut Vec<Browser>,
    waits: &mut Vec<Duration>,
) -> Outcome<usize> {
    let mut count = 0;
    while let Some(task) = tasks.join_next().await {
        let (browser, waited) = task??;
        count += waited.len();
        browsers.push(browser);
        waits.extend(waited);
    }
    Ok(count)
}

/// Sweeps while all browsers renew; how long it took.
async fn swept_meanwhile(
    sessions: &Arc<Sessions>,
    store: &Arc<Embedded>,
    browsers: &mut Vec<Browser>,
    waits: &mut Vec<Duration>,
) -> Outcome<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = start(sessions, store, browsers, Work::Renew, &stop);
    let started = Instant::now();
    let removed = sessions.sweep(Clock::System.now()).await?;
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    finish(tasks, browsers, waits).await?;
    match removed {
        ENDED.. => Ok(took),
        _ => Err(format!("only {removed} sessions were swept").into()),
    }
}

/// Appends records one at a time, each on disk before the next; per second.
fn append(folder: &Path, seconds: f64) -> Outcome<f64> {
    let bytes = serde_json::to_vec(&record(1, Clock::System.now(), Clock::System.now()))?;
    let path = folder.join("append");
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&path)?;
    let (started, mut count) = (Instant::now(), 0u32);
    while started.elapsed().as_secs_f64() < seconds {
        file.write_all(&bytes)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Memory of this process in bytes, now and at most.
fn resident() -> Outcome<u64> {
    status("VmRSS:")
}

fn peak() -> Outcome<u64> {
    status("VmHWM:")
}

fn status(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such line in /proc/self/status")?;
    let number = line.split_whitespace().next().ok_or("no number")?;
    Ok(number.parse::<u64>()? * 1024)
}

fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    format!(
        "{:.digits$} [{:.digits$}..{:.digits$}]",
        at(sorted.len() / 2),
        at(0),
        at(sorted.len().saturating_sub(1))
    )
}

fn percentiles(waits: &mut [Duration]) -> String {
    waits.sort_unstable();
    let at = |share: f64| {
        let place = (waits.len() as f64 * share) as usize;
        let wait = waits.get(place.min(waits.len().saturating_sub(1)));
        wait.copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "median {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}
