//! For settings that change at run time: an axum server reads its file again at SIGHUP, and when
//! the file changes:
//!
//! ```text
//! cargo run --release --example reload --features serde
//!
//! sed -i 's/^limit = .*/limit = 10/' examples/reload.toml    # prints what has changed
//! curl localhost:3000/settings                               # what the stack has now
//! sed -i 's/^limit = .*/limit = 0/' examples/reload.toml     # prints why nothing has changed
//! pkill -HUP reload                                          # the same once more
//! ```
//!
//! `.ci/reload` does this under load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::{Json, Router, routing::get};
use clap::Parser;
use notify::{Event, RecursiveMode, Watcher};
use seawall::stack::{Changes, ServerHandle, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use toml::{Table, Value};
use tower::BoxError;

#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The settings of the stack.
    #[arg(long, default_value = "examples/reload.toml")]
    settings: PathBuf,
}

#[derive(serde::Deserialize)]
struct Millis {
    ms: u64,
}

/// The file, and where its settings go.
struct Reload {
    file: PathBuf,
    stack: ServerHandle,
    /// What the stack has where the file names nothing.
    code: Settings,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { port, settings } = Args::parse();
    let stack = seawall::server().build()?;
    let reload = Reload {
        file: settings,
        stack: stack.handle(),
        code: stack.settings(),
    };
    // Editors and Kubernetes replace the file: the directory is watched.
    let modified = Arc::new(Notify::new());
    let notice = modified.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Not that it was read.
        if event.map_or(true, |event| !event.kind.is_access()) {
            notice.notify_one();
        }
    })?;
    watcher.watch(reload.folder(), RecursiveMode::NonRecursive)?;
    // At the start, a wrong file ends the process.
    println!("settings: {}", reload.load().await?);

    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut known = None;
        loop {
            let is_asked = tokio::select! {
                _ = hangup.recv() => true,
                () = modified.notified() => false,
            };
            if !is_asked {
                // The file may be written in several steps.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let loaded = reload.load().await;
            let error = loaded.as_ref().err().map(ToString::to_string);
            match (&loaded, &error) {
                (Ok(changes), _) if !changes.is_empty() => println!("settings: {changes}"),
                // Another file of the directory, such as a log, may change with each line.
                (_, Some(text)) if is_asked || error != known => {
                    eprintln!("settings: nothing is changed: {text}");
                }
                _ => {}
            }
            known = error;
        }
    });

    let (now, drain) = (stack.handle(), stack.drain().clone());
    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/sleep", get(sleep))
        .layer(stack)
        // For operators: not to be reached from outside. It is not behind the stack.
        .route("/settings", get(async move || Json(now.settings())));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let (begin, mut terminate) = (drain.clone(), signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
        begin.begin();
    });
    let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
    let report = drain.serve(serve, Duration::from_secs(10)).await?;
    println!("drained: {report}");
    Ok(())
}

impl Reload {
    /// Applies the file: all of it or, if there is a mistake anywhere, nothing.
    async fn load(&self) -> Result<Changes, BoxError> {
        let text = tokio::fs::read_to_string(&self.file).await?;
        let mut all = Table::try_from(&self.code)?;
        for (part, fields) in text.parse::<Table>()? {
            match (all.get_mut(&part), fields) {
                (Some(Value::Table(all)), Value::Table(fields)) => all.extend(fields),
                (_, fields) => drop(all.insert(part, fields)),
            }
        }
        Ok(self.stack.apply(&all.try_into()?)?)
    }

    fn folder(&self) -> &Path {
        let folder = self.file.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }
}

async fn sleep(Query(Millis { ms }): Query<Millis>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "slept\n"
}
