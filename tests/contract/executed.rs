//! Executed: the method was started exactly once, and whatever it did is done.

use rmi::{Class, Kind, Limits, args, root_exc};
use rmi_core::frame::{frame_flag, frame_type};
use rmi_core::hello::PeerLimits;

use crate::common::{only_link, within};
use crate::service::{Mine, Oops, Pair, Trigger, impostor};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returned() {
    within(async {
        let pair = Pair::start().await;
        for n in 1..=100 {
            assert_eq!((pair.stub.fine().await.unwrap(), pair.faulty.runs.get()), (2 * n - 1, 2 * n - 1));
            assert_eq!((pair.stub.plain().await.unwrap(), pair.faulty.runs.get()), (2 * n, 2 * n));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raised() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.raise("so".into()), Kind::Raised, Class::Executed).await;
        assert_eq!(error.cause(), Some(&Oops("so".into())));
        // In parts, with its payload.
        let error = pair.fails(pair.stub.raise_large(1 << 20), Kind::Raised, Class::Executed).await;
        assert_eq!(error.cause().unwrap().0.len(), 1 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicked() {
    within(async {
        let pair = Pair::start().await;
        let stub = &pair.stub;
        for call in [stub.panic(), stub.panic_later(), stub.panic_blocking(), stub.panic_cpu(), stub.panic_direct()] {
            let error = pair.fails(call, Kind::Panicked, Class::Executed).await;
            assert!(!format!("{error:?}").contains("on purpose"), "the text of a panic stays at home: {error:?}");
        }
        let (there, here) = (Mine { armed: true }, Mine { armed: false });
        stub.take_mine(&here).await.unwrap();
        pair.fails(stub.take_mine(&there), Kind::Panicked, Class::Executed).await;
        pair.fails(stub.take_mine_blocking(&there), Kind::Panicked, Class::Executed).await;
        std::mem::forget(there);
        for trigger in [Trigger::EncodePanics] {
            pair.fails(stub.give(trigger), Kind::Panicked, Class::Executed).await;
            pair.fails(stub.give_blocking(trigger), Kind::Panicked, Class::Executed).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_encode() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.give(Trigger::EncodeFails), Kind::ResponseEncode, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("the bomb does not encode"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_decode() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.give(Trigger::DecodeFails), Kind::ResponseDecode, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("the bomb does not decode"), "{error:?}");
        let call = pair.peer.invoke::<String>("Faulty.fine", args![]);
        pair.fails(call, Kind::ResponseDecode, Class::Executed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_read_costs_its_call_only() {
    within(async {
        let (mut raw, client, peer, _listener) = impostor(PeerLimits::default()).await;
        let link = only_link(&client);
        let garbage: [(&[u8], u8); 6] = [
            (&[0xc1], 0),
            (&[], 0),
            (&[0x01, 0x01], 0),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff], 0),
            (&[0x01], frame_flag::EXCEPTION),
            (&[0x91, 0x7f, 0x01], frame_flag::ATTACHMENTS),
        ];
        for (body, flags) in garbage {
            let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
            let (header, _) = raw.frame_of(frame_type::REQUEST).await;
            raw.send(frame_type::RESPONSE, flags, header.id, body).await;
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::ResponseDecode, Class::Executed), "{body:?}: {error:?}");
            assert!(format!("{error:?}").contains("server"), "{error:?}");
            assert_eq!(only_link(&client), link);
        }
        let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let (header, _) = raw.frame_of(frame_type::REQUEST).await;
        raw.send(frame_type::RESPONSE, 0, header.id, &[7]).await;
        assert_eq!(call.await.unwrap(), 7);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_too_large() {
    within(async {
        const LIMIT: usize = 256 << 10;
        let pair = Pair::with_limits(Limits::default().with_message(LIMIT)).await;
        // bin 32: five bytes in front.
        assert_eq!(pair.stub.large(LIMIT - 5).await.unwrap().len(), LIMIT - 5);
        let error = pair.fails(pair.stub.large(LIMIT - 4), Kind::ResponseTooLarge, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("with_message"), "{error:?}");
        pair.fails(pair.stub.large(1 << 20), Kind::ResponseTooLarge, Class::Executed).await;
        // Of an error that is too large the words stay, as far as they may.
        let error = pair.fails(pair.stub.raise_large(LIMIT), Kind::Raised, Class::Executed).await;
        let remote = error.remote().expect("the payload cannot have come");
        assert!(remote.message().starts_with("it is aaa") && remote.type_name().ends_with("Oops"), "{error:?}");
    })
    .await;
}
