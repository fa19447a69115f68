//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use rand::RngCore as _;

use crate::chain::Chain;
use crate::chain::genesis::{account_key, miner_keys};
use crate::config::{Config, MinerConfig, Rules};
use crate::jwt::{self, Permission};
use crate::keys::{Key, Keystore};
use crate::rpc::{Handle, Node, router};
use crate::verifier::StockVerifier;
use crate::{clock, files, history};

/// A Filecoin chain in one process, for demos and tests. Its money and its keys are worth nothing.
#[derive(Debug, Parser)]
#[command(name = "filstar-devnet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the folder of a chain: settings, keys, tokens. Does nothing to one that exists.
    Init(InitArgs),
    /// Run the chain; makes its folder first if there is none.
    Run(RunArgs),
    /// Print a key as `lotus wallet export` does, or its address.
    PrintKey(PrintKeyArgs),
    /// Print the names, addresses and roles of all keys.
    Keys(SourceArgs),
    /// Print a token for a permission and all below it.
    Token(TokenArgs),
    /// Print every landed message as a JSON line.
    History(DirArgs),
}

#[derive(Clone, Debug, Args)]
struct DirArgs {
    /// Folder of the chain.
    #[arg(long, env = "FILSTAR_DEVNET_DIR")]
    dir: PathBuf,
}

/// A chain, or the settings of one that is not there yet: with a seed they have all its keys.
#[derive(Clone, Debug, Args)]
struct SourceArgs {
    /// Folder of the chain.
    #[arg(long, env = "FILSTAR_DEVNET_DIR", required_unless_present = "config")]
    dir: Option<PathBuf>,
    /// JSON file with settings, `seed` among them; read instead of the folder.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Settings of a new chain. A chain that exists keeps what it was made with.
#[derive(Clone, Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// JSON file with settings; flags win over it.
    #[arg(long, env = "FILSTAR_DEVNET_CONFIG")]
    config: Option<PathBuf>,
    /// Fast deadlines: 8 of 15 epochs of one second.
    #[arg(long, env = "FILSTAR_DEVNET_DEMO")]
    demo: bool,
    /// Keys and tickets follow from it, so everyone who knows it has the keys. Random unless given.
    #[arg(long, env = "FILSTAR_DEVNET_SEED")]
    seed: Option<String>,
    /// Actor id of a miner; may be given more than once.
    #[arg(long = "miner")]
    miners: Vec<u64>,
    /// Number of the seal proof of these miners; 5 is 2 KiB.
    #[arg(long)]
    seal_proof: Option<i64>,
    /// Name of the network.
    #[arg(long)]
    network_name: Option<String>,
    /// Milliseconds between epochs.
    #[arg(long, env = "FILSTAR_DEVNET_BLOCK_DELAY_MS")]
    block_delay_ms: Option<u64>,
    /// Unix time of epoch 0 in milliseconds; now unless given.
    #[arg(long)]
    genesis_time_ms: Option<u64>,
    /// Deadlines of a proving period.
    #[arg(long)]
    deadlines: Option<u64>,
    /// Epochs of a deadline.
    #[arg(long)]
    challenge_window: Option<i64>,
    /// Epochs from the challenge until the deadline opens.
    #[arg(long)]
    challenge_lookback: Option<i64>,
    /// Epochs before a deadline opens from which faults cannot be declared for it.
    #[arg(long)]
    fault_declaration_cutoff: Option<i64>,
    /// Epochs from the pre-commit to the interactive seed.
    #[arg(long)]
    pre_commit_challenge_delay: Option<i64>,
    /// Epochs after which a pre-commit can no longer be proven.
    #[arg(long)]
    max_prove_commit_duration: Option<i64>,
    /// Chance of a null round, of a thousand.
    #[arg(long)]
    null_permille: Option<u64>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    init: InitArgs,
    /// Address to listen on.
    #[arg(long, env = "FILSTAR_DEVNET_LISTEN", default_value = "127.0.0.1:1234")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
struct PrintKeyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Name of the key: `miner-1000-owner`, `miner-1000-worker`, `miner-1000-control-0`, `account-0`.
    #[arg(long)]
    name: String,
    /// Print the address instead of the key.
    #[arg(long)]
    address: bool,
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// `read`, `write`, `sign` or `admin`.
    #[arg(long, default_value = "write")]
    perm: String,
}

/// Runs the command of this process.
pub(crate) fn main() -> anyhow::Result<()> {
    fvm_shared::address::set_current_network(fvm_shared::address::Network::Testnet);
    match Cli::parse().command {
        Command::Init(args) => init(&args).map(|_| ()),
        Command::Run(args) => run(&args),
        Command::PrintKey(args) => print_key(&args),
        Command::Keys(args) => list_keys(&args),
        Command::Token(args) => {
            let permission = jwt::parse(&args.perm).context("no such permission")?;
            let secret = jwt_secret(&source_config(&args.source)?);
            say(&jwt::issue(&secret, &permission.up_to()));
            Ok(())
        }
        Command::History(args) => {
            let path = args.dir.join(history::FILE);
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            say(text.trim_end());
            Ok(())
        }
    }
}

/// Standard output is for answers only; logs go to standard error.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn say(text: &str) {
    println!("{text}");
}

fn config_path(dir: &Path) -> PathBuf {
    dir.join("config.json")
}

fn read_config(dir: &Path) -> anyhow::Result<Config> {
    let path = config_path(dir);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: run `filstar-devnet init` first", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The secret of the tokens follows from the seed, as the keys do.
fn jwt_secret(config: &Config) -> [u8; 32] {
    crate::codec::blake2b256(&[b"filstar devnet jwt", config.seed.as_bytes()])
}

fn source_config(source: &SourceArgs) -> anyhow::Result<Config> {
    match (&source.config, &source.dir) {
        (Some(path), _) => {
            let config = config_file(path)?;
            if config.seed.is_empty() {
                bail!(
                    "{}: keys and tokens follow from `seed`, which is not there",
                    path.display()
                );
            }
            Ok(config)
        }
        (None, Some(dir)) => read_config(dir),
        (None, None) => bail!("--dir or --config is needed"),
    }
}

fn config_file(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The settings that the flags and the file give.
fn settings(args: &InitArgs) -> anyhow::Result<Config> {
    let mut config = match &args.config {
        Some(path) => config_file(path)?,
        None => Config::default(),
    };
    if args.demo {
        config.block_delay_ms = 1_000;
        config.deadlines = 8;
        config.challenge_window = 15;
        config.challenge_lookback = 5;
        config.fault_declaration_cutoff = 7;
        // Clients of a real network take tickets this old.
        config.max_ticket_age = Some(3_780);
    }
    if !args.miners.is_empty() {
        config.miners = args.miners.iter().map(|id| MinerConfig::new(*id)).collect();
    }
    if let Some(proof) = args.seal_proof {
        config.miners.iter_mut().for_each(|m| m.seal_proof = proof);
    }
    set(&mut config.network_name, args.network_name.as_ref());
    set(&mut config.seed, args.seed.as_ref());
    set(&mut config.block_delay_ms, args.block_delay_ms.as_ref());
    set(&mut config.genesis_time_ms, args.genesis_time_ms.as_ref());
    set(&mut config.deadlines, args.deadlines.as_ref());
    set(&mut config.challenge_window, args.challenge_window.as_ref());
    set(
        &mut config.challenge_lookback,
        args.challenge_lookback.as_ref(),
    );
    set(
        &mut config.fault_declaration_cutoff,
        args.fault_declaration_cutoff.as_ref(),
    );
    set(
        &mut config.pre_commit_challenge_delay,
        args.pre_commit_challenge_delay.as_ref(),
    );
    set(&mut config.null_permille, args.null_permille.as_ref());
    if args.max_prove_commit_duration.is_some() {
        config.max_prove_commit_duration = args.max_prove_commit_duration;
    }
    if config.seed.is_empty() {
        let mut random = [0u8; 32];
        rand::rngs::OsRng.fill_bytes(&mut random);
        config.seed = hex::encode(random);
    }
    if config.genesis_time_ms == 0 {
        config.genesis_time_ms = u64::try_from(clock::now_ms()).unwrap_or(0);
    }
    Rules::new(&config)?;
    Ok(config)
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(value) = given {
        value.clone_into(field);
    }
}

/// Makes what is not there yet; each file is whole or absent, so a crash in between does no harm.
fn init(args: &InitArgs) -> anyhow::Result<Config> {
    let dir = &args.dir.dir;
    files::create_dir(dir).with_context(|| dir.display().to_string())?;
    if !config_path(dir).exists() {
        let config = settings(args)?;
        let text = serde_json::to_string_pretty(&config)?;
        files::write_secret(&config_path(dir), text.as_bytes())?;
    }
    let config = read_config(dir)?;
    let secret = jwt_secret(&config);
    for permission in Permission::Admin.up_to() {
        let path = dir.join(format!("token-{}", permission.name()));
        files::write_secret(&path, jwt::issue(&secret, &permission.up_to()).as_bytes())?;
    }
    write_keys(dir, &config)?;
    Ok(config)
}

fn named_keys(config: &Config) -> Vec<(String, &'static str, Key)> {
    let mut out = Vec::new();
    for miner in &config.miners {
        let keys = miner_keys(config, miner);
        let prefix = format!("miner-{}", miner.actor_id);
        out.push((format!("{prefix}-owner"), "owner", keys.owner));
        out.push((format!("{prefix}-worker"), "worker", keys.worker));
        for (i, key) in keys.control.into_iter().enumerate() {
            out.push((format!("{prefix}-control-{i}"), "control", key));
        }
    }
    for index in 0..config.accounts {
        out.push((
            format!("account-{index}"),
            "account",
            account_key(config, index),
        ));
    }
    out
}

fn write_keys(dir: &Path, config: &Config) -> anyhow::Result<()> {
    let keys_dir = dir.join("keys");
    files::create_dir(&keys_dir)?;
    let mut keystore = Keystore::open(&dir.join("keystore"))?;
    for (name, _, key) in named_keys(config) {
        let path = keys_dir.join(format!("{name}.key"));
        if !path.exists() {
            files::write_secret(&path, key.info.export().as_bytes())?;
            files::write_secret(
                &keys_dir.join(format!("{name}.address")),
                key.address.to_string().as_bytes(),
            )?;
        }
        if keystore.get(&key.address).is_none() {
            keystore.add(key)?;
        }
    }
    Ok(())
}

fn print_key(args: &PrintKeyArgs) -> anyhow::Result<()> {
    let config = source_config(&args.source)?;
    let Some((_, _, key)) = named_keys(&config)
        .into_iter()
        .find(|(name, _, _)| *name == args.name)
    else {
        bail!("no key {:?}; `filstar-devnet keys` lists them", args.name);
    };
    let text = if args.address {
        key.address.to_string()
    } else {
        key.info.export()
    };
    say(&text);
    Ok(())
}

fn list_keys(source: &SourceArgs) -> anyhow::Result<()> {
    for (name, role, key) in named_keys(&source_config(source)?) {
        let line =
            serde_json::json!({ "name": name, "role": role, "address": key.address.to_string() });
        say(&line.to_string());
    }
    Ok(())
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,storage_proofs_core=warn"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = init(&args.init)?;
    let dir = &args.init.dir.dir;
    let secret = jwt_secret(&config).to_vec();
    let mut chain = Chain::open(dir, config, Arc::new(StockVerifier))?;
    if !chain.settings.paused {
        clock::realign(&mut chain, clock::now_ms())?;
    }
    let keystore = Keystore::open(&dir.join("keystore"))?;
    let node = Node {
        chain,
        keystore,
        secret,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(Handle::new(node), args.listen))
}

async fn serve(handle: Handle, listen: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    // With port 0 the kernel has chosen one.
    let listen = listener.local_addr().unwrap_or(listen);
    let height = handle.lock().chain.head().height;
    tracing::info!(%listen, height, "devnet is up");
    let server = axum::serve(listener, router(handle.clone()));
    tokio::select! {
        result = server => result.context("server"),
        error = clock::run(handle) => Err(anyhow::Error::new(error).context("the chain stopped")),
        () = stop_signal() => {
            tracing::info!("stopping");
            Ok(())
        }
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
