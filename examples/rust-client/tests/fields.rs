//! Further fields, 3.5, which the suite sends to services only.
use iris::{Client, Error};
use std::io::{Read, Write};
use std::net::TcpListener;

const WELCOME: &[u8] = &[0xc4, 6, 0x95, 1, 1, 0x80, 0x80, 0x90];

/// What a client that was welcomed makes of a pong with a further field: the code of its error, or none.
fn taken(field: &[u8]) -> Option<u64> {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = node.local_addr().unwrap().port();
    let pong = [&[0xc4, field.len() as u8 + 3, 0x93, 4, 7], field].concat();
    let node = std::thread::spawn(move || {
        let (mut client, mut hello) = (node.accept().unwrap().0, [0; 14]);
        client.read_exact(&mut hello).unwrap();
        client.write_all(&[WELCOME, &pong].concat()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        client.read_to_end(&mut vec![]).unwrap();
    });
    let (mut client, read) = Client::attach(port).unwrap();
    let Error(code, _) = match client.take(read()) {
        Ok(_) => Error(0, String::new()),
        Err(why) => why,
    };
    client.close(iris::CLOSED);
    node.join().unwrap();
    Some(code).filter(|code| *code > 0)
}

fn nested(leaf: &[u8]) -> Vec<u8> {
    [&[0x91; 7], leaf].concat()
}

#[test]
fn further_fields_are_passed_over() {
    let fields: [&[u8]; 12] = [
        &[0xc0],
        &[0xc3],
        &[0xff],
        &[0xd0, 0x80],
        &[0xca, 0x7f, 0xc0, 0, 0],
        &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255],
        &[0xd9, 2, 0xc3, 0xa4],
        &[0xc4, 1, 0xff],
        &[0xd6, 0xff, 1, 2, 3, 4],
        &[0xc7, 3, 0xc1, 0xc1, 0xff, 0],
        &[0x82, 1, 2, 1, 0x91, 0xc4, 0],
        &[0x81, 0x90, 0x80],
    ];
    for field in fields {
        assert_eq!(taken(field), None, "{field:x?}");
        let deep = if field[0] == 0x82 || field[0] == 0x81 { field.to_vec() } else { nested(field) };
        assert_eq!(taken(&deep), None, "{deep:x?}");
    }
    assert_eq!(taken(&nested(&[0x90])), None);
}

#[test]
fn what_is_no_messagepack_or_too_deep_is_malformed() {
    let fields: [&[u8]; 6] = [&[0xc1], &[0xa1, 0xff], &[0x91, 0xa2, 0xc0, 0x80], &[0x81, 1, 0xc1], &[0x92, 1], &[1, 2]];
    for field in fields {
        assert_eq!(taken(field), Some(32), "{field:x?}");
    }
    assert_eq!(taken(&nested(&[0x91, 1])), Some(32));
    assert_eq!(taken(&nested(&[0x81, 1, 1])), Some(32));
}
