//! A program that does what the seed did, with a better HTTP server around it.
//!
//! The seed, in Ruby: `words.gsub(/[^\w]/, ' ')`, then `` `echo #{words} | espeak -v whisper
//! --stdout` ``, then the output through a `GzipWriter` at its default level, which is 6.

use std::process::Command;

use actix_web::App;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::Path;
use actix_web::web::Query;
use libdeflater::CompressionLvl;
use libdeflater::Compressor;
use serde::Deserialize;

/// Runs the bench program as the peer; the argument after it is the espeak to run.
pub const ARGUMENT: &str = "--serve-as-the-seed";

#[derive(Deserialize)]
struct Options {
    voice: Option<String>,
}

/// Serves until it is killed.
pub fn serve(espeak: &str) {
    let espeak = Data::new(espeak.to_owned());
    let serving = async move {
        let server = HttpServer::new(move || {
            App::new().app_data(espeak.clone()).route("/say/{words}", web::get().to(say))
        })
        .tcp_nodelay(true)
        .bind("127.0.0.1:0")?;
        println!("ready http://{}", server.addrs()[0]);
        server.run().await
    };
    actix_web::rt::System::new().block_on(serving).expect("the peer serves");
}

async fn say(words: Path<String>, options: Query<Options>, espeak: Data<String>) -> HttpResponse {
    let words: String = words
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '_' { char } else { ' ' })
        .collect();
    let voice = if options.voice.is_some() { "en+whisper" } else { "en" };
    let line = format!("echo {words} | {} -v {voice} --stdout", espeak.as_str());
    let body = web::block(move || {
        let wav = Command::new("sh").args(["-c", &line]).output().expect("sh is there").stdout;
        let mut compressor = Compressor::new(CompressionLvl::new(6).expect("6 is a level"));
        let mut body = vec![0; compressor.gzip_compress_bound(wav.len())];
        let length = compressor.gzip_compress(&wav, &mut body).expect("the room is enough");
        body.truncate(length);
        body
    });
    let body = body.await.expect("the thread does not panic");
    HttpResponse::Ok()
        .insert_header(("content-encoding", "gzip"))
        .content_type("audio/wav")
        .body(body)
}
