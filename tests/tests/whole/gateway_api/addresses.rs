//! Addresses of Gateways: those that they name, and those that are chosen for them.

use std::net::{SocketAddr, TcpListener};

use super::world::{World, gateway, get};

/// Gateway `g` with one listener at port 8080.
fn at(name: &str, addresses: &str) -> String {
    let made = gateway(name, 4, "  - {name: http, port: 8080, protocol: HTTP}");
    made.replace("  addresses: [{value: $4}]\n", addresses)
}

fn named(addresses: &[&str]) -> String {
    at("g", &format!("  addresses: [{}]\n", addresses.join(", ")))
}

#[test]
fn GatewayStaticAddresses() {
    let (invalid, unusable, usable) = ("{type: test/fake-invalid-type, value: fake address}", "{value: 192.0.2.1}", "{value: $4}");
    let world = World::new(&named(&[invalid, unusable, usable]));
    let address = world.address(4);
    world.of_gateway("g", "Accepted", ("False", "UnsupportedAddress"));
    assert!(world.addresses("g").is_empty());
    world.apply("test", &named(&[unusable, usable]));
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    world.of_gateway("g", "Programmed", ("False", "AddressNotUsable"));
    world.of_listener("g", 0, "Programmed", ("False", "PortUnavailable"));
    // What can be listened on is.
    world.expect_at(SocketAddr::new(address, 8080), &get("/"), 404);
    assert_eq!(world.addresses("g"), [address]);
    world.apply("test", &named(&[usable]));
    world.of_gateway("g", "Programmed", ("True", "Programmed"));
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    for kind in ["Accepted", "Programmed", "ResolvedRefs"] {
        world.of_listener("g", 0, kind, ("True", kind));
    }
    assert_eq!(world.addresses("g"), [address]);
    // An address that is another program's can be used when that has left.
    let other = SocketAddr::new(world.address(5), 8080);
    let held = TcpListener::bind(other).expect("a free address");
    world.apply("test", &named(&["{value: $5}"]));
    world.of_gateway("g", "Programmed", ("False", "AddressNotUsable"));
    assert!(world.addresses("g").is_empty());
    drop(held);
    world.of_gateway("g", "Programmed", ("True", "Programmed"));
    world.expect_at(other, &get("/"), 404);
    assert_eq!(world.addresses("g"), [other.ip()]);
}

#[test]
fn GatewayOptionalAddressValue() {
    let both = at("a", "  addresses: [{type: IPAddress}]\n") + &at("b", "");
    let world = World::with_pool(&both);
    let mut chosen = Vec::new();
    for name in ["a", "b"] {
        world.of_gateway(name, "Accepted", ("True", "Accepted"));
        world.of_gateway(name, "Programmed", ("True", "Programmed"));
        let addresses = world.addresses(name);
        assert_eq!(addresses.len(), 1, "{addresses:?}");
        world.expect_at(SocketAddr::new(addresses[0], 8080), &get("/"), 404);
        chosen.extend(addresses);
    }
    assert_ne!(chosen[0], chosen[1]);
    // Both keep what they have, and there is none left for a third.
    world.apply("test", &(both + &at("0-first", "")));
    world.of_gateway("0-first", "Accepted", ("True", "Accepted"));
    world.of_gateway("0-first", "Programmed", ("False", "AddressNotAssigned"));
    assert_eq!([world.addresses("a"), world.addresses("b")].concat(), chosen);
    world.apply("test", &(at("a", "  addresses: [{type: IPAddress}]\n") + &at("0-first", "")));
    world.of_gateway("0-first", "Programmed", ("True", "Programmed"));
    assert_eq!([world.addresses("a"), world.addresses("0-first")].concat(), chosen);
}
