//! server: a key-value server on tokio under load from 32 connections on loopback.
//!
//! Imitates a small asynchronous service: tasks that start on one worker thread and go on on another, a request's
//! strings and headers taken here and freed there, bodies of 100 bytes to 8 KiB shared by reference count, a table that
//! grows and shrinks. Clients send eight requests at a time and check every answer. One operation is one request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bench_subject::program::{Outcome, Work};
use bench_subject::rng::XorShift64;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::{Checksum, Hasher, expect, scaled};

const CONNECTIONS: usize = 32;
const PIPELINE: usize = 8;
const KEYS: usize = 200;

type Store = Arc<Mutex<HashMap<String, Arc<Vec<u8>>>>>;

pub fn prepare(scale: f64) -> Result<Work, String> {
    let rounds = scaled(160_000 / (CONNECTIONS * PIPELINE), scale, 2);
    Ok(Box::new(move || {
        // Two workers anywhere, so that the work is the same; they start with the work and end with it.
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_io()
            .build()
            .map_err(|e| format!("the runtime cannot start: {e}"))?;
        runtime.block_on(load(rounds))
    }))
}

async fn load(rounds: usize) -> Result<Outcome, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| format!("cannot listen on loopback: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let store = Store::default();
    let server = tokio::spawn(accept(listener, store.clone()));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await;
                client(stream.map_err(|e| e.to_string())?, number, rounds).await
            })
        })
        .collect();
    let (mut units, mut sum) = (0, 0u64);
    for client in clients {
        let (requests, checksum) = client.await.map_err(|e| e.to_string())??;
        units += requests;
        sum = sum.wrapping_add(checksum);
    }
    server.abort();
    // What is left in the store is what the clients did not delete; the order of a hash table does not matter to a sum.
    let left = store.lock().map_err(|_| "a server task panicked")?;
    for (key, value) in left.iter() {
        let mut checksum = Checksum::new();
        checksum.write(key.as_bytes());
        checksum.write(value);
        sum = sum.wrapping_add(checksum.finish());
    }
    Ok(Outcome { units, checksum: sum })
}

async fn accept(listener: TcpListener, store: Store) {
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that breaks shows at its client.
        tokio::spawn(serve(stream, store.clone()));
    }
}

/// Answers requests of the form of HTTP.
async fn serve(stream: TcpStream, store: Store) -> std::io::Result<()> {
    // Else the kernel would hold small answers back, and every round would take its 40 milliseconds.
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut answers = Vec::new();
    loop {
        let Some(Message { line, headers, body }) = received(&mut read).await? else { return Ok(()) };
        let (status, answer) = handle(&line, body, &store);
        let host = headers.get("host").map_or("", String::as_str);
        let head = format!("HTTP/1.1 {status}\r\nServer: {host}\r\nContent-Length: {}\r\n\r\n", answer.len());
        answers.extend_from_slice(head.as_bytes());
        answers.extend_from_slice(&answer);
        // What was asked together is answered together.
        if read.buffer().is_empty() {
            write.write_all(&answers).await?;
            answers.clear();
        }
    }
}

fn handle(line: &str, body: Vec<u8>, store: &Store) -> (&'static str, Arc<Vec<u8>>) {
    let words: Vec<&str> = line.split(' ').collect();
    let Ok(mut store) = store.lock() else {
        return ("500 Error", Arc::default());
    };
    let key = words.get(1).copied().unwrap_or("").to_owned();
    match words[0] {
        "GET" => match store.get(&key) {
            Some(value) => ("200 OK", value.clone()),
            None => ("404 Not Found", Arc::default()),
        },
        "PUT" => match store.insert(key, Arc::new(body)) {
            Some(_) => ("200 OK", Arc::default()),
            None => ("201 Created", Arc::default()),
        },
        "DELETE" => match store.remove(&key) {
            Some(_) => ("204 No Content", Arc::default()),
            None => ("404 Not Found", Arc::default()),
        },
        _ => ("400 Bad Request", Arc::default()),
    }
}

/// Sends requests about keys of its own and knows what the answers must be.
async fn client(stream: TcpStream, number: usize, rounds: usize) -> Result<(u64, u64), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut random = XorShift64::new(3, number as u64);
    let mut known: HashMap<String, Vec<u8>> = HashMap::new();
    let mut checksum = Checksum::new();
    for _ in 0..rounds {
        let mut expected = Vec::with_capacity(PIPELINE);
        let mut message = Vec::new();
        for _ in 0..PIPELINE {
            let key = format!("/{number}/{}", random.between(0, KEYS - 1));
            let (method, body, answer) = match random.between(0, 9) {
                0..=4 => match known.get(&key) {
                    Some(value) => ("GET", Vec::new(), ("200", value.clone())),
                    None => ("GET", Vec::new(), ("404", Vec::new())),
                },
                5..=8 => {
                    let length = 100 << random.between(0, 6);
                    let byte = random.between(0, 255) as u8;
                    let value = vec![byte; length + random.between(0, length / 4)];
                    match known.insert(key.clone(), value.clone()) {
                        Some(_) => ("PUT", value, ("200", Vec::new())),
                        None => ("PUT", value, ("201", Vec::new())),
                    }
                }
                _ => match known.remove(&key) {
                    Some(_) => ("DELETE", Vec::new(), ("204", Vec::new())),
                    None => ("DELETE", Vec::new(), ("404", Vec::new())),
                },
            };
            let head = format!(
                "{method} {key} HTTP/1.1\r\nHost: node-{number}\r\nAccept: */*\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            message.extend_from_slice(head.as_bytes());
            message.extend_from_slice(&body);
            expected.push(answer);
        }
        write.write_all(&message).await.map_err(|e| format!("a client cannot send: {e}"))?;
        for (status, body) in expected {
            let answer = received(&mut read).await.map_err(|e| format!("no answer: {e}"))?.ok_or("no answer")?;
            expect("a status", answer.line.split(' ').nth(1), Some(status))?;
            expect("that a body is what was put", answer.body == body, true)?;
            checksum.write_u64(answer.body.len() as u64);
        }
    }
    Ok(((rounds * PIPELINE) as u64, checksum.finish()))
}

/// What both sides send: a line, headers, an empty line, a body.
struct Message {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// The next message; nothing where the other side has hung up.
async fn received(read: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Option<Message>> {
    let mut line = String::new();
    if read.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    line.truncate(line.trim_end().len());
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        read.read_line(&mut header).await?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap_or(0));
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    Ok(Some(Message { line, headers, body }))
}
