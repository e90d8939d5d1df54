//! A mutator that knows JSON: bytes changed at random are mostly no JSON any more, and say little about what lies
//! behind the parser.
//!
//! A value at a random place is replaced by one that was seen elsewhere, in this or another input, by an odd one,
//! or removed, doubled or swapped with its neighbour. A third of the changes is left to libFuzzer's own mutator.

use std::cell::RefCell;

use serde_json::{Map, Number, Value};

/// The most values remembered of other inputs.
const REMEMBERED: usize = 4096;

/// Odd text: empty, long, with bytes that end or split things, paths that lead out.
const ODD: [&str; 16] = [
    "",
    "/",
    ".",
    "..",
    "/../../etc",
    "a\0b",
    "a\nb",
    "a=b",
    "-1",
    "0-4294967295",
    "0,",
    "18446744073709551616",
    "/proc/self/fd/0",
    "x:y:z",
    "\u{fffd}\u{10ffff}",
    "max",
];

thread_local! {
    static SEEN: RefCell<Vec<(String, Value)>> = const { RefCell::new(Vec::new()) };
}

/// Xorshift: enough for dice, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Changes `data[..size]` in place and tells the new size; `None` where it is no JSON, the dice say that bytes are
/// to be changed, or the result has no room.
pub fn json(data: &mut [u8], size: usize, most: usize, seed: u32) -> Option<usize> {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    if dice.roll(3) == 0 {
        return None;
    }
    let mut document: Value = serde_json::from_slice(&data[..size]).ok()?;
    for _ in 0..=dice.roll(4) {
        change(&mut document, &mut dice);
    }
    let text = serde_json::to_vec(&document).ok()?;
    if text.len() > most {
        return None;
    }
    data[..text.len()].copy_from_slice(&text);
    Some(text.len())
}

fn change(document: &mut Value, dice: &mut Dice) {
    let places = count(document);
    let mut place = dice.roll(places);
    let mut key = String::new();
    let Some(target) = find(document, &mut place, &mut key) else { return };
    remember(&key, target, dice);
    match dice.roll(8) {
        0 => *target = Value::Null,
        1..=3 => *target = seen(&key, dice).unwrap_or_else(|| odd(dice)),
        4 => *target = odd(dice),
        _ => shuffle(target, dice),
    }
}

/// Every value below, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place, counted as [`count`] does, and the key that it stands under.
fn find<'a>(value: &'a mut Value, place: &mut usize, key: &mut String) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(list) => {
            for item in list {
                let below = count(item);
                if *place < below {
                    return find(item, place, key);
                }
                *place -= below;
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                let below = count(item);
                if *place < below {
                    key.clone_from(name);
                    return find(item, place, key);
                }
                *place -= below;
            }
        }
        _ => {}
    }
    None
}

fn remember(key: &str, value: &Value, dice: &mut Dice) {
    SEEN.with_borrow_mut(|seen| {
        let entry = (key.to_owned(), value.clone());
        if seen.len() < REMEMBERED {
            seen.push(entry);
        } else {
            let at = dice.roll(REMEMBERED);
            seen[at] = entry;
        }
    });
}

/// A value that stood under this key before, or under any.
fn seen(key: &str, dice: &mut Dice) -> Option<Value> {
    SEEN.with_borrow(|seen| {
        let same: Vec<&Value> = seen.iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
        if !same.is_empty() && dice.roll(4) > 0 {
            return Some(same[dice.roll(same.len())].clone());
        }
        seen.get(dice.roll(seen.len())).map(|(_, value)| value.clone())
    })
}

fn odd(dice: &mut Dice) -> Value {
    match dice.roll(6) {
        0 => Value::String(ODD[dice.roll(ODD.len())].to_owned()),
        1 => Value::String("x".repeat(1 << dice.roll(13))),
        2 => Value::Bool(dice.roll(2) == 0),
        3 => Value::Array(Vec::new()),
        4 => Value::Object(Map::new()),
        _ => {
            let power = 1_u64 << dice.roll(64);
            Value::Number(match dice.roll(4) {
                0 => Number::from(power),
                1 => Number::from(power.wrapping_sub(1)),
                2 => Number::from((power as i64).wrapping_neg()),
                _ => Number::from(u64::MAX),
            })
        }
    }
}

/// A change that keeps the kind of value.
fn shuffle(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Null => *value = odd(dice),
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(number) => {
            let old = number.as_i64().unwrap_or(i64::MAX);
            *number = Number::from(match dice.roll(4) {
                0 => old.wrapping_add(1),
                1 => old.wrapping_sub(1),
                2 => old.wrapping_neg(),
                _ => old.wrapping_mul(1024),
            });
        }
        Value::String(text) => {
            let at = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).nth(dice.roll(text.len() + 1));
            let at = at.unwrap_or(0);
            match dice.roll(3) {
                0 => text.truncate(at),
                1 => text.insert_str(at, ODD[dice.roll(ODD.len())]),
                _ => *text = text[at..].to_owned(),
            }
        }
        Value::Array(list) if list.is_empty() => list.push(odd(dice)),
        Value::Array(list) => {
            let at = dice.roll(list.len());
            match dice.roll(3) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => {
                    let other = dice.roll(list.len());
                    list.swap(at, other);
                }
            }
        }
        Value::Object(map) => {
            let name = map.keys().nth(dice.roll(map.len())).cloned();
            match (dice.roll(2), name) {
                (0, Some(name)) => drop(map.remove(&name)),
                _ => SEEN.with_borrow(|seen| {
                    if let Some((name, value)) = seen.get(dice.roll(seen.len())) {
                        map.insert(name.clone(), value.clone());
                    }
                }),
            }
        }
    }
}
