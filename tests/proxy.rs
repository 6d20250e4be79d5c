//! The bad network that other tests use does what it says: else they would test less than they say.

mod common;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use common::proxy::{Cut, Pieces, Proxy, Way};
use common::{until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The two ends of a connection through a proxy.
async fn ends() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(&listener.local_addr().unwrap().to_string()).await;
    let dialer = TcpStream::connect(proxy.host_port()).await.unwrap();
    let (acceptor, _) = listener.accept().await.unwrap();
    (proxy, dialer, acceptor)
}

#[tokio::test]
async fn bytes_arrive_in_order_whatever_their_pieces() {
    within(async {
        let (proxy, mut dialer, mut acceptor) = ends().await;
        let sent: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        for pieces in [Pieces::Whole, Pieces::Of(1), Pieces::Of(1000), Pieces::Random(50, 7)] {
            proxy.split(Way::Out, pieces);
            let mut arrived = vec![0; sent.len()];
            let (wrote, read) = tokio::join!(dialer.write_all(&sent), acceptor.read_exact(&mut arrived));
            wrote.unwrap();
            read.unwrap();
            assert_eq!(arrived, sent, "{pieces:?}");
        }
        dialer.shutdown().await.unwrap();
        assert_eq!(acceptor.read(&mut [0]).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_cut_lets_just_so_many_bytes_arrive() {
    within(async {
        for (n, cut) in [(1, Cut::Fin), (700, Cut::Fin), (700, Cut::Rst), (0, Cut::Rst), (0, Cut::Fin)] {
            let (proxy, mut dialer, mut acceptor) = ends().await;
            proxy.record();
            proxy.cut_after(Way::Back, n, cut);
            // It may be cut before.
            let _ = acceptor.write_all(&[5; 1000]).await;
            let mut arrived = Vec::new();
            let end = dialer.read_to_end(&mut arrived).await;
            match cut {
                Cut::Fin => assert_eq!((end.unwrap(), arrived.len() as u64), (n as usize, n)),
                // What has arrived and was not read may be lost with the connection.
                Cut::Rst => assert!(end.unwrap_err().kind() == ErrorKind::ConnectionReset && arrived.len() as u64 <= n),
            }
            assert_eq!((proxy.n_forwarded(Way::Back), proxy.recorded(Way::Back).len() as u64), (n, n));
            if cut == Cut::Rst {
                assert_eq!(acceptor.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            } else {
                // The other direction is whole.
                dialer.write_all(&[1]).await.unwrap();
                assert_eq!(acceptor.read(&mut [0]).await.unwrap(), 1);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_frozen_direction_keeps_what_comes_until_it_thaws() {
    within(async {
        let (proxy, mut dialer, mut acceptor) = ends().await;
        proxy.black_hole();
        let writer = tokio::spawn(async move {
            // More than sockets hold.
            dialer.write_all(&vec![3; 64 << 20]).await.unwrap();
            dialer
        });
        let nothing = tokio::time::timeout(Duration::from_millis(200), acceptor.read(&mut [0])).await;
        assert!(nothing.is_err() && !writer.is_finished());
        proxy.thaw();
        let mut arrived = vec![0; 64 << 20];
        acceptor.read_exact(&mut arrived).await.unwrap();
        assert!(arrived.iter().all(|byte| *byte == 3));
        writer.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn bytes_are_late_and_slow_when_they_are_told_to_be() {
    within(async {
        let (proxy, mut dialer, mut acceptor) = ends().await;
        proxy.delay(Way::Out, Duration::from_millis(100));
        let begun = Instant::now();
        dialer.write_all(&[1]).await.unwrap();
        acceptor.read_exact(&mut [0]).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100));
        proxy.throttle(Way::Back, 100_000);
        let begun = Instant::now();
        acceptor.write_all(&[1; 20_000]).await.unwrap();
        dialer.read_exact(&mut [0; 20_000]).await.unwrap();
        // The last piece arrives before its time is over.
        dialer.shutdown().await.unwrap();
        acceptor.write_all(&[1]).await.unwrap();
        dialer.read_exact(&mut [0]).await.unwrap();
        // A line that was late catches up a little.
        assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_reset_reaches_both_ends_of_every_connection() {
    within(async {
        let (proxy, mut dialer, mut acceptor) = ends().await;
        dialer.write_all(&[1]).await.unwrap();
        acceptor.read_exact(&mut [0]).await.unwrap();
        proxy.reset();
        for end in [&mut dialer, &mut acceptor] {
            assert_eq!(end.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        until("nothing is carried", || proxy.n_links() == 0).await;
    })
    .await;
}

#[test]
fn nothing_of_it_is_left_when_it_is_dropped() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(within(async {
        let before = runtime.metrics().num_alive_tasks();
        let (proxy, mut dialer, _acceptor) = ends().await;
        let address = proxy.host_port().to_owned();
        drop(proxy);
        assert_eq!(dialer.read(&mut [0]).await.unwrap(), 0);
        until("nobody listens", || std::net::TcpStream::connect(&address).is_err()).await;
        until("its tasks have ended", || runtime.metrics().num_alive_tasks() == before).await;
    }));
}
