//! To start with: the smallest protected server, one axum route behind the recommended stack.
//!
//! ```text
//! cargo run --example quickstart
//! curl -i localhost:3000/          # 200
//! curl -i localhost:3000/panic     # 500, and the server goes on
//! ```

use axum::{Router, routing::get};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stack = seawall::server().build()?;
    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/panic", get(panic))
        .layer(stack);

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn panic() {
    panic!("a handler panics");
}
