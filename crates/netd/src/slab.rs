//! Numbered places that are used again; a key of who was there before fits nobody else.

/// A place, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// How many were there before.
    pub turn: u32,
}

/// The places.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

/// Turns are counted in so many bits, and then from the beginning.
pub const TURN_BITS: u32 = 24;

impl<T> Slab<T> {
    /// Puts something into a free place.
    pub fn insert(&mut self, item: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(item);
        Key { index, turn: place.0 }
    }

    /// What is there, if it is still the same.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (turn, item) = self.places.get(key.index as usize)?;
        item.as_ref().filter(|_| *turn == key.turn)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (turn, item) = self.places.get_mut(key.index as usize)?;
        item.as_mut().filter(|_| *turn == key.turn)
    }

    /// Takes it out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (turn, item) = self.places.get_mut(key.index as usize)?;
        if *turn != key.turn {
            return None;
        }
        let item = item.take()?;
        *turn = (*turn + 1) % (1 << TURN_BITS);
        self.free.push(key.index);
        Some(item)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, (turn, item))| {
            Some((Key { index: index as u32, turn: *turn }, item.as_ref()?))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_fits_nobody() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c');
        assert_eq!((c.index, slab.get(a)), (a.index, None));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get_mut(b), Some(&mut 'b'));
        let all: Vec<char> = slab.iter().map(|(_, item)| *item).collect();
        assert_eq!((all, slab.len()), (vec!['c', 'b'], 2));
    }
}
