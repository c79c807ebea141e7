// What a row of predictions may say of a DICOM image, none of it of the patient
// (kneeedge/pixels/dicom_facts.py).

import { DamagedError } from "./dicom_elements.js";

const UID = /^[0-9.]{1,64}$/; // PS3.5, section 6.2
const LATERALITY = /^[RLBU]$/; // PS3.3, sections C.7.3.1 and C.8.11.5
const VIEW = /^(AP|PA|LL|RL|RLD|LLD|RLO|LLO)$/; // PS3.3, section C.8.1.1

/** {sop_instance_uid, laterality, view}; each is empty where the standard does not allow it. */
export function factsOf(dataSet) {
  const laterality = text(dataSet, "ImageLaterality") || text(dataSet, "Laterality");
  return {
    sop_instance_uid: matching(UID, text(dataSet, "SOPInstanceUID")),
    laterality: matching(LATERALITY, laterality),
    view: matching(VIEW, text(dataSet, "ViewPosition")),
  };
}

function text(dataSet, keyword) {
  try {
    return dataSet.text(keyword);
  } catch (error) {
    if (error instanceof DamagedError) return ""; // it is no text
    throw error;
  }
}

function matching(allowed, value) {
  const trimmed = value.trim();
  return allowed.test(trimmed) ? trimmed : "";
}
