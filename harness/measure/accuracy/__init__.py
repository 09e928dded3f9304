"""mAP, and the detections that it is made from."""
