use std::path::Path;

use serde_json::json;

use super::memory::Memory;
use super::*;
use crate::store::Store;

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}})
}

fn text(value: &Value) -> What {
    What::Text(value.to_string().into())
}

#[tokio::test]
async fn what_is_told_and_not_taken_is_the_newest_of_each_unit() {
    let (memory, hand) = Memory::new("m");
    hand.put("early", text(&map("early", "1")));
    let sources = Sources::start(vec![Box::new(memory)]).expect("starts");
    assert!(sources.synced(Duration::from_secs(10)).await.is_empty());
    for round in 0..100 {
        hand.put("a", text(&map("a", &round.to_string())));
        hand.put("a", What::Unreadable(Some("no".to_owned())));
        hand.put("a", What::Held(Some("open".to_owned())));
        hand.put("a", What::Again);
        hand.put("b", What::Gone);
    }
    sources.changed().await;
    let taken: Vec<(String, What)> = sources.take().changes.into_iter().map(|c| (c.unit.display().to_string(), c.what)).collect();
    let expected = [
        ("m/a".to_owned(), text(&map("a", "99"))),
        ("m/a".to_owned(), What::Again),
        ("m/b".to_owned(), What::Gone),
        ("m/early".to_owned(), text(&map("early", "1"))),
    ];
    assert_eq!(taken, expected);
    assert!(sources.take().changes.is_empty());
}

#[tokio::test]
async fn a_source_that_has_not_told_all_is_named() {
    struct Silent;
    impl Source for Silent {
        fn name(&self) -> String {
            "silent".to_owned()
        }
        fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError> {
            Ok(Box::new(feed))
        }
    }
    let sources = Sources::start(vec![Box::new(Memory::new("m").0), Box::new(Silent)]).expect("starts");
    assert_eq!(sources.synced(Duration::from_millis(1)).await, [Unsynced { name: "silent".to_owned(), is_awaited: false }]);
}

#[tokio::test]
async fn a_folder_and_another_source_serve_together_and_the_same_object_in_both_names_both() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), format!("{}\n---\n{}", map("one", "folder"), map("both", "folder"))).expect("written");
    let (memory, hand) = Memory::new("memory");
    hand.put("two", What::Object(Box::new(map("two", "memory"))));
    hand.put("both", What::Object(Box::new(map("both", "memory"))));
    let (files, _followed) = folder::Folder::new(vec![folder.path().to_owned()]);
    let sources = Sources::start(vec![Box::new(files), Box::new(memory)]).expect("starts");
    assert!(sources.synced(Duration::from_secs(30)).await.is_empty());
    let mut store = Store::default();
    let update = store.update(sources.take().changes);
    let names = |store: &Store| store.objects().iter().map(|o| o.key.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&store), ["both", "one", "two"]);
    let told: Vec<String> = update.faults.iter().map(ToString::to_string).collect();
    let file = folder.path().join("a.yaml").display().to_string();
    assert!(told.len() == 1 && told[0].contains("memory/both") && told[0].contains(&file), "{told:?}");
    // Once only one of them defines it, that one counts.
    std::fs::remove_file(folder.path().join("a.yaml")).expect("removed");
    tokio::time::timeout(Duration::from_secs(30), sources.changed()).await.expect("seen");
    let update = store.update(sources.take().changes);
    assert!(update.faults.is_empty(), "{:?}", update.faults);
    assert_eq!(names(&store), ["both", "two"]);
    assert_eq!(store.objects().get("ConfigMap", "default", "both").expect("there").origin.file(), Path::new("memory/both"));
    hand.put("both", What::Gone);
    store.update(sources.take().changes);
    assert_eq!(names(&store), ["two"]);
}
