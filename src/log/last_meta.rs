//! A memory of one: every change of a commit has the same metadata.

use std::sync::Arc;

use super::cbor::{Decoder, Flaw};
use super::meta::Meta;

/// The last metadata that was encoded or decoded, with its encoding. All changes of a commit have the same
/// metadata, so each is encoded or decoded once, and the decoded one is shared.
///
/// The encoding is kept here and not in [`Meta`], because programs can change the fields of a `Meta`. The
/// `Arc` that is kept here cannot be changed: as long as it is shared, `Arc::get_mut` refuses.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastMeta {
    last: Option<(Arc<Meta>, Vec<u8>)>,
}

impl LastMeta {
    /// The metadata, encoded.
    pub(crate) fn encode(&mut self, meta: &Arc<Meta>) -> &[u8] {
        if self.last.as_ref().is_none_or(|(last, _)| last != meta) {
            self.last = Some((meta.clone(), meta.encode()));
        }
        self.last.as_ref().map_or(&[], |(_, encoded)| encoded)
    }

    /// The metadata with exactly this encoding; an error if the encoder would not write these bytes.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Arc<Meta>, Flaw> {
        let mut decoder = Decoder::new(bytes);
        let meta = self.read_meta(&mut decoder)?;
        if decoder.is_empty() { Ok(meta) } else { Err(Flaw::Malformed("something follows the metadata")) }
    }

    /// Reads the metadata that is next.
    pub(crate) fn read_meta(&mut self, decoder: &mut Decoder<'_>) -> Result<Arc<Meta>, Flaw> {
        let before = decoder.rest();
        // No encoding is a prefix of another one, so a match is the whole item.
        if let Some((last, encoded)) = &self.last
            && decoder.skip(encoded)
        {
            return Ok(last.clone());
        }
        let meta = Arc::new(Meta::read_from(decoder)?);
        self.last = Some((meta.clone(), decoder.since(before).to_owned()));
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_metadata_is_decoded_once_and_other_metadata_never_taken_for_it() {
        let (one, other) = (Meta::new().actor("a").encode(), Meta::new().actor("ab").encode());
        let mut last = LastMeta::default();
        let first = last.decode(&one).unwrap();
        assert!(Arc::ptr_eq(&first, &last.decode(&one).unwrap()));
        assert_eq!(last.decode(&other).unwrap().actor.as_deref(), Some("ab"));
        assert_eq!(last.decode(&one).unwrap(), first);
        assert!(last.decode(&[one.as_slice(), &[0]].concat()).is_err(), "something behind it");
        assert_eq!(last.decode(&one[..one.len() - 1]), Err(Flaw::Cut));
        assert_eq!(last.decode(&one).unwrap(), first, "what was refused is forgotten");
        let both = [one.as_slice(), &one, &other].concat();
        let mut decoder = Decoder::new(&both);
        let actors = [(); 3].map(|()| last.read_meta(&mut decoder).unwrap().actor.clone().unwrap());
        assert_eq!((actors, decoder.is_empty()), (["a".into(), "a".into(), "ab".into()], true));
    }

    #[test]
    fn metadata_that_a_program_changed_is_encoded_as_it_is_now() {
        let mut last = LastMeta::default();
        let mut meta = Arc::new(Meta::new().actor("a"));
        assert_eq!(last.encode(&meta), Meta::new().actor("a").encode());
        assert!(Arc::get_mut(&mut meta).is_none(), "it is shared");
        Arc::make_mut(&mut meta).actor = Some("b".into());
        assert_eq!(last.encode(&meta), Meta::new().actor("b").encode());
        let equal = Arc::new(Meta::new().actor("b"));
        assert_eq!(last.encode(&equal), Meta::new().actor("b").encode());
    }
}
